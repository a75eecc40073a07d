#include "outgoing.h"

#include <cstddef>
#include <vector>

#include "dtypes.h"

namespace zenith::torch_module {

bool put_tensors(std::uint64_t arena, const shim::TensorArguments& tensors) {
  std::vector<TensorView> views;
  std::vector<std::int64_t> extents;
  views.reserve(tensors.size());
  extents.reserve(2 * tensors.size());
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    const auto tensor = tensors.get(index);
    const auto dtype = engine_dtype(tensor.dtype());
    if (!dtype || !tensor.is_contiguous()) {
      return false;
    }
    const auto* sizes = tensor.sizes();
    extents.insert(extents.end(), sizes, sizes + tensor.rank());
    views.push_back({reinterpret_cast<std::uintptr_t>(tensor.data()), tensor.bytes(), *dtype,
                     static_cast<std::size_t>(tensor.rank())});
  }
  return arena_put(arena, {views.data(), views.size()}, {extents.data(), extents.size()});
}

}  // namespace zenith::torch_module
