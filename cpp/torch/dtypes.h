// Element types of torch and of the engine.
#pragma once

#include <cstdint>
#include <optional>

#include "stable_abi.h"

#include "../bridge/batch_view.h"

namespace zenith::torch_module {

// Throws std::runtime_error for a type of the engine that this build does not know.
std::int32_t torch_dtype(DType dtype);

// Nothing for a type that the engine does not have.
std::optional<DType> engine_dtype(std::int32_t dtype);

}  // namespace zenith::torch_module
