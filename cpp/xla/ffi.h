// XLA's header-only FFI, of the pinned version, and the words of the bridge in its terms.
//
// Handlers are called from any thread, without the GIL. They translate and hold no state: feeds are numbers that the
// engine checks, and nothing thrown leaves a handler.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "engine.h"
#include "xla/ffi/api/ffi.h"

namespace zenith::xla_module {

namespace ffi = ::xla::ffi;

// Names the symbol of a handler; the linker's version script exports it.
#define ZENITH_XLA_SYMBOL extern "C" __attribute__((visibility("default")))

inline std::optional<DType> engine_dtype(ffi::DataType dtype) {
  switch (dtype) {
    case ffi::DataType::PRED:
      return DType::Bool;
    case ffi::DataType::U8:
      return DType::U8;
    case ffi::DataType::S8:
      return DType::I8;
    case ffi::DataType::U16:
      return DType::U16;
    case ffi::DataType::S16:
      return DType::I16;
    case ffi::DataType::U32:
      return DType::U32;
    case ffi::DataType::S32:
      return DType::I32;
    case ffi::DataType::U64:
      return DType::U64;
    case ffi::DataType::S64:
      return DType::I64;
    case ffi::DataType::F16:
      return DType::F16;
    case ffi::DataType::BF16:
      return DType::BF16;
    case ffi::DataType::F32:
      return DType::F32;
    case ffi::DataType::F64:
      return DType::F64;
    default:
      return std::nullopt;
  }
}

// The error of a kind of the engine (zenith::data::ErrorKind).
inline ffi::Error error_of_kind(std::uint32_t kind, std::string text) {
  switch (kind) {
    case 1:  // InvalidArgument
      return {ffi::ErrorCode::kInvalidArgument, std::move(text)};
    case 2:  // NotFound
      return {ffi::ErrorCode::kNotFound, std::move(text)};
    case 3:  // Io
      return {ffi::ErrorCode::kUnavailable, std::move(text)};
    case 4:  // Corrupt
    case 7:  // DatasetChanged
      return {ffi::ErrorCode::kDataLoss, std::move(text)};
    case 5:  // Unsupported
      return {ffi::ErrorCode::kUnimplemented, std::move(text)};
    case 6:  // Budget
      return {ffi::ErrorCode::kResourceExhausted, std::move(text)};
    case 8:   // State
    case 10:  // Forked
      return {ffi::ErrorCode::kFailedPrecondition, std::move(text)};
    case 11:  // Interrupted
      return {ffi::ErrorCode::kCancelled, std::move(text)};
    case 12:  // TimedOut
      return {ffi::ErrorCode::kDeadlineExceeded, std::move(text)};
    default:
      return {ffi::ErrorCode::kInternal, std::move(text)};
  }
}

}  // namespace zenith::xla_module
