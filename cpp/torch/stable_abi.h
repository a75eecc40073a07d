// The only file that names libtorch's C shims, and the only place that states the oldest torch this binary runs on.
//
// Everything the modules need from torch is here; a shim that torch 2.11 does not have fails to compile. Include this
// file before any other torch header, and no header that undoes the target (pybind11, fmt).
#pragma once

// Torch floor: 2.11, the first with a deleter in from_blob.
#define TORCH_TARGET_VERSION 0x020b000000000000ULL

#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace zenith::shim {

inline void check(AOTITorchError code, const char* what) {
  // Before 2.13 a failing shim has no text of its own, so we say at least what was tried.
  if (code != 0) {
    throw std::runtime_error(what);
  }
}

// Owns a list of tensors on its way to the dispatcher. Not copyable, used by one thread.
class TensorList {
 public:
  explicit TensorList(std::size_t capacity) {
    check(torch_new_list_reserve_size(capacity, &list_), "torch could not make a list");
  }
  TensorList(const TensorList&) = delete;
  TensorList& operator=(const TensorList&) = delete;
  ~TensorList() {
    if (list_ != nullptr) {
      torch_delete_list(list_);
    }
  }

  // Takes over the reference that `tensor` is. Handles are pushed directly because wrapping each in a
  // torch::stable::Tensor would allocate twice more per tensor.
  void push(AtenTensorHandle tensor) {
    check(torch_list_push_back(list_, torch::stable::detail::from(tensor)), "torch could not extend a list");
  }

  // Gives the list to the dispatcher.
  StableIValue release() { return torch::stable::detail::from(std::exchange(list_, nullptr)); }

 private:
  StableListHandle list_ = nullptr;
};

// A tensor that an op was called with. Owns one reference.
class TensorArgument {
 public:
  explicit TensorArgument(AtenTensorHandle tensor) : tensor_(tensor) {}
  TensorArgument(const TensorArgument&) = delete;
  TensorArgument& operator=(const TensorArgument&) = delete;
  ~TensorArgument() { aoti_torch_delete_tensor_object(tensor_); }

  std::int32_t dtype() const {
    std::int32_t dtype = 0;
    check(aoti_torch_get_dtype(tensor_, &dtype), "torch does not tell a tensor's dtype");
    return dtype;
  }
  bool is_contiguous() const {
    bool is_contiguous = false;
    check(aoti_torch_is_contiguous(tensor_, &is_contiguous), "torch does not tell how a tensor lies in memory");
    return is_contiguous;
  }
  std::int64_t rank() const {
    std::int64_t rank = 0;
    check(aoti_torch_get_dim(tensor_, &rank), "torch does not tell a tensor's rank");
    return rank;
  }
  const std::int64_t* sizes() const {
    std::int64_t* sizes = nullptr;
    check(aoti_torch_get_sizes(tensor_, &sizes), "torch does not tell a tensor's shape");
    return sizes;
  }
  const void* data() const {
    void* data = nullptr;
    check(aoti_torch_get_data_ptr(tensor_, &data), "torch does not tell where a tensor lies");
    return data;
  }
  std::size_t bytes() const {
    std::int64_t numel = 0;
    check(aoti_torch_get_numel(tensor_, &numel), "torch does not tell a tensor's size");
    return static_cast<std::size_t>(numel) * aoti_torch_dtype_element_size(dtype());
  }

 private:
  AtenTensorHandle tensor_;
};

// The tensors that an op was called with. Takes over the list, used by one thread.
class TensorArguments {
 public:
  explicit TensorArguments(StableIValue list) : list_(torch::stable::detail::to<StableListHandle>(list)) {}
  TensorArguments(const TensorArguments&) = delete;
  TensorArguments& operator=(const TensorArguments&) = delete;
  ~TensorArguments() { torch_delete_list(list_); }

  std::size_t size() const {
    std::size_t size = 0;
    check(torch_list_size(list_, &size), "torch does not tell the length of a list");
    return size;
  }
  TensorArgument get(std::size_t index) const {
    StableIValue tensor{};
    check(torch_list_get_item(list_, index, &tensor), "torch does not give an item of a list");
    return TensorArgument(torch::stable::detail::to<AtenTensorHandle>(tensor));
  }

 private:
  StableListHandle list_;
};

// A CPU tensor over row-major memory. `deleter(data, context)` runs once, when the storage dies, on any thread; it does
// not run when this function throws.
inline AtenTensorHandle tensor_from_blob(void* data, std::int64_t rank, const std::int64_t* sizes,
                                         const std::int64_t* strides, std::int32_t dtype,
                                         void (*deleter)(void* data, void* context), void* context) {
  AtenTensorHandle tensor = nullptr;
  check(torch_from_blob(data, rank, sizes, strides, 0, dtype, aoti_torch_device_type_cpu(), -1, &tensor,
                        aoti_torch_layout_strided(), nullptr, 0, deleter, context),
        "torch could not make a tensor over the memory of a batch");
  return tensor;
}

// A CPU tensor with unspecified content, by torch's allocator (`pinned`: by that for page-locked memory), and where its
// values are. Throws where torch has no such memory.
inline AtenTensorHandle empty_tensor(std::int64_t rank, const std::int64_t* sizes, const std::int64_t* strides,
                                     std::int32_t dtype, bool pinned, std::uint8_t** data) {
  AtenTensorHandle tensor = nullptr;
  const auto cpu = aoti_torch_device_type_cpu();
  const auto make = pinned ? aoti_torch_empty_strided_pinned : aoti_torch_empty_strided;
  check(make(rank, sizes, strides, dtype, cpu, -1, &tensor), "torch could not allocate a tensor for a batch");
  void* values = nullptr;
  if (aoti_torch_get_data_ptr(tensor, &values) != 0) {
    aoti_torch_delete_tensor_object(tensor);
    throw std::runtime_error("torch did not tell where a tensor lies");
  }
  *data = static_cast<std::uint8_t*>(values);
  return tensor;
}

inline void delete_tensor(AtenTensorHandle tensor) { aoti_torch_delete_tensor_object(tensor); }

}  // namespace zenith::shim
