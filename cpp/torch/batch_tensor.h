// A part of a batch as a torch tensor that owns the part's lease.
#pragma once

#include <cstddef>

#include "stable_abi.h"

#include "../bridge/batch_view.h"

namespace zenith::torch_module {

// Moves the lease of part `index` into a new CPU tensor that aliases the part's memory. The engine gets the memory back
// when the tensor and all its views are gone. Throws std::runtime_error when torch refuses; the lease is then released.
AtenTensorHandle batch_tensor(BatchView& view, std::size_t index);

}  // namespace zenith::torch_module
