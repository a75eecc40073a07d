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

void* allocate_tensor(std::uint32_t dtype, std::size_t rank, const std::int64_t* extents, std::uint32_t pinned,
                      std::uint8_t** data) {
  try {
    std::vector<std::int64_t> strides;
    row_major_strides(rust::Slice<const std::int64_t>(extents, rank), strides);
    return shim::empty_tensor(static_cast<std::int64_t>(rank), extents, strides.data(),
                              torch_dtype(static_cast<DType>(dtype)), pinned != 0, data);
  } catch (const std::exception&) {
    return nullptr;
  }
}

void release_tensor(void* tensor) { shim::delete_tensor(static_cast<AtenTensorHandle>(tensor)); }

struct LeaseRelease {
  void operator()(void* lease) const { bridge::lease_release(lease); }
};

}  // namespace

const bridge::TensorFunctions tensor_functions = {allocate_tensor, release_tensor};

AtenTensorHandle batch_tensor(BatchView& view, std::size_t index, std::vector<std::int64_t>& strides) {
  if (void* tensor = view.take_tensor(index)) {
    return static_cast<AtenTensorHandle>(tensor);
  }
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
