// A part of a batch as a torch tensor that owns the part's lease.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "stable_abi.h"

#include "../bridge/batch_view.h"

namespace zenith::torch_module {

// Moves the lease of part `index` into a new CPU tensor that aliases the part's memory. The engine gets the memory back
// when the tensor and all its views are gone. Throws std::runtime_error when torch refuses; the lease is then released.
// `strides` is scratch space, passed so that a batch of many parts allocates it once.
AtenTensorHandle batch_tensor(BatchView& view, std::size_t index, std::vector<std::int64_t>& strides);

}  // namespace zenith::torch_module
