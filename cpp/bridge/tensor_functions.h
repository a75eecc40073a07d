// What a framework lends the engine, so that batches are written straight into the framework's own tensors.
//
// The layout is that of `TensorFunctions` in rust/zenith-ffi/src/tensors.rs. Both functions are called from any thread,
// without the GIL, and throw nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace zenith::bridge {

struct TensorFunctions {
  // A row-major CPU tensor of an element type of the bridge's `DType`; `data` gets the address of its values. Null
  // where there is none to be had. `pinned` is 0 or 1.
  void* (*allocate)(std::uint32_t dtype, std::size_t rank, const std::int64_t* extents, std::uint32_t pinned,
                    std::uint8_t** data);
  void (*release)(void* tensor);
};

}  // namespace zenith::bridge
