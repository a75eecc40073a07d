// Schemas of the ops, their one-line implementations, and the empty Python module whose import registers them
// and lends the engine torch's tensors.
#include "stable_abi.h"

#include <Python.h>

#include <algorithm>

#include "batch_tensor.h"
#include "outgoing.h"

namespace {

using torch::stable::detail::from;
using torch::stable::detail::to;

// Boxed by hand because TORCH_BOX would wrap and copy each tensor. Never throws an error of the engine: status 3 says
// that zenith._engine.take_error() has it.
void next_batch(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const auto wait_ms = std::clamp<std::int64_t>(to<std::int64_t>(stack[1]), 0, UINT32_MAX);
  auto view =
      zenith::next_batch(static_cast<std::uint64_t>(to<std::int64_t>(stack[0])), static_cast<std::uint32_t>(wait_ms));
  zenith::shim::TensorList tensors(view->parts());
  std::vector<std::int64_t> strides;
  for (std::size_t index = 0; index < view->parts(); ++index) {
    tensors.push(zenith::torch_module::batch_tensor(*view, index, strides));
  }
  stack[0] = tensors.release();
  stack[1] = from(static_cast<std::int64_t>(view->status()));
}

void arena_put(StableIValue* stack, std::uint64_t, std::uint64_t) {
  const zenith::shim::TensorArguments tensors(stack[1]);
  stack[0] = from(zenith::torch_module::put_tensors(static_cast<std::uint64_t>(to<std::int64_t>(stack[0])), tensors));
}

STABLE_TORCH_LIBRARY(zenith, library) {
  // Waits up to wait_ms for the next batch. status: 0 batch, 1 pending, 2 end, 3 error, 4 batch of torch's own tensors.
  library.def("next_batch(int loader, int wait_ms) -> (Tensor[] fields, int status)");
  // Puts contiguous CPU tensors into a worker's arena; False: they cannot go that way.
  library.def("arena_put(int arena, Tensor[] tensors) -> bool");
}

STABLE_TORCH_LIBRARY_IMPL(zenith, CompositeExplicitAutograd, library) {
  library.impl("next_batch", next_batch);
  library.impl("arena_put", arena_put);
}

PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "zenith_torch._C", nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() {
  zenith::lend_tensor_functions(reinterpret_cast<const std::uint8_t*>(&zenith::torch_module::tensor_functions));
  return PyModule_Create(&module);
}
