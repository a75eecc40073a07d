// A part of a batch as a torch tensor that owns the part's lease.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stable_abi.h"

#include "../bridge/batch_view.h"
#include "../bridge/tensor_functions.h"

namespace zenith::torch_module {

// The part `index` as a tensor. One that the engine wrote into a tensor of torch's is that tensor. Any other is a new
// CPU tensor that aliases the part's memory and has its lease: the engine gets the memory back when the tensor and all
// its views are gone. Throws std::runtime_error when torch refuses; the lease is then released. `strides` is scratch
// space, passed so that a batch of many parts allocates it once.
AtenTensorHandle batch_tensor(BatchView& view, std::size_t index, std::vector<std::int64_t>& strides);

// Makes tensors for the engine: pinned ones come from torch's own allocator, which delays the reuse of their memory
// until copies that torch submitted, on whatever stream, are done.
extern const bridge::TensorFunctions tensor_functions;

}  // namespace zenith::torch_module
