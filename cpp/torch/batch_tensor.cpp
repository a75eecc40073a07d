#include "batch_tensor.h"

#include <memory>

#include "dtypes.h"

namespace zenith::torch_module {
namespace {

void row_major_strides(rust::Slice<const std::int64_t> shape, std::vector<std::int64_t>& strides) {
  strides.resize(shape.size());
  std::int64_t stride = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    // As torch does it: an empty axis counts as one.
    stride *= shape[axis] > 0 ? shape[axis] : 1;
  }
}

struct LeaseRelease {
  void operator()(void* lease) const { bridge::lease_release(lease); }
};

}  // namespace

AtenTensorHandle batch_tensor(BatchView& view, std::size_t index, std::vector<std::int64_t>& strides) {
  const auto shape = view.shape(index);
  row_major_strides(shape, strides);
  const auto dtype = torch_dtype(view.dtype(index));
  void* data = view.data(index);
  std::unique_ptr<void, LeaseRelease> lease(bridge::lease_into_context(view.take_lease(index)));
  const auto tensor = shim::tensor_from_blob(
      data, static_cast<std::int64_t>(shape.size()), shape.data(), strides.data(), dtype,
      [](void*, void* context) { bridge::lease_release(context); }, lease.get());
  lease.release();
  return tensor;
}

}  // namespace zenith::torch_module
