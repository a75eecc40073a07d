// Large results lie in memory that XLA maps anew for every call, so that a good part of writing them is the system's
// clearing of pages one by one.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace zenith::xla_module {

// Asks for huge pages within a result. The advice changes no content; where the system has none to give, nothing
// happens.
inline void ask_for_huge_pages(void* data, std::size_t bytes) {
  constexpr std::uintptr_t kHugePage = std::uintptr_t{2} << 20;
  const auto start = (reinterpret_cast<std::uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) & ~(kHugePage - 1);
  if (end > start) {
    madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
  }
}

}  // namespace zenith::xla_module
