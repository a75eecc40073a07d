#include "dtypes.h"

#include <stdexcept>

namespace zenith::torch_module {

std::int32_t torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::Bool:
      return aoti_torch_dtype_bool();
    case DType::U8:
      return aoti_torch_dtype_uint8();
    case DType::I8:
      return aoti_torch_dtype_int8();
    case DType::U16:
      return aoti_torch_dtype_uint16();
    case DType::I16:
      return aoti_torch_dtype_int16();
    case DType::U32:
      return aoti_torch_dtype_uint32();
    case DType::I32:
      return aoti_torch_dtype_int32();
    case DType::U64:
      return aoti_torch_dtype_uint64();
    case DType::I64:
      return aoti_torch_dtype_int64();
    case DType::F16:
      return aoti_torch_dtype_float16();
    case DType::BF16:
      return aoti_torch_dtype_bfloat16();
    case DType::F32:
      return aoti_torch_dtype_float32();
    case DType::F64:
      return aoti_torch_dtype_float64();
  }
  throw std::runtime_error(
      "the engine sent an element type that this build of zenith_torch does not know; install both "
      "from one build");
}

std::optional<DType> engine_dtype(std::int32_t dtype) {
  for (auto number = static_cast<std::uint32_t>(DType::Bool); number <= static_cast<std::uint32_t>(DType::F64);
       ++number) {
    if (torch_dtype(static_cast<DType>(number)) == dtype) {
      return static_cast<DType>(number);
    }
  }
  return std::nullopt;
}

}  // namespace zenith::torch_module
