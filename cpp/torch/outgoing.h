// Tensors that a worker sends: described to the engine, which copies them into shared memory or finds them there.
#pragma once

#include <cstdint>

#include "stable_abi.h"

#include "../bridge/batch_view.h"

namespace zenith::torch_module {

// False: a tensor is not contiguous, or of a type or in a relation to the others that does not go this way.
// Throws std::runtime_error when torch does not answer.
bool put_tensors(std::uint64_t arena, const shim::TensorArguments& tensors);

}  // namespace zenith::torch_module
