// The handler behind zenith_jax.next_batch: (token, shard) -> (samples in the batch, next token, fields...).
#include "ffi.h"

#include <vector>

namespace zenith::xla_module {
namespace {

// Waits in the thread that the program goes on in; the engine bounds how long.
ffi::Error next_batch(ffi::RunId run, std::int32_t device, std::int64_t feed, ffi::BufferR1<ffi::U32> token,
                      ffi::BufferR0<ffi::U32> shard, ffi::ResultBufferR0<ffi::S32> valid,
                      ffi::ResultBufferR1<ffi::U32> next, ffi::RemainingRets results) {
  if (token.element_count() != 2 || next->element_count() != 2) {
    return ffi::Error::InvalidArgument("a token has two numbers of 32 bits");
  }
  std::vector<TensorView> fields;
  fields.reserve(results.size());
  for (std::size_t index = 0; index < results.size(); ++index) {
    auto result = results.get<ffi::AnyBuffer>(index);
    if (!result.has_value()) {
      return result.error();
    }
    const ffi::AnyBuffer buffer = *result.value();
    const auto dtype = engine_dtype(buffer.element_type());
    if (!dtype) {
      return ffi::Error::Internal("a result of next_batch has an element type that no field has");
    }
    fields.push_back({reinterpret_cast<std::uintptr_t>(buffer.untyped_data()), buffer.size_bytes(), *dtype,
                      buffer.dimensions().size()});
  }
  FeedRequest request{};
  request.feed = static_cast<std::uint64_t>(feed);
  request.run = run.run_id;
  request.batch = std::uint64_t{token.typed_data()[1]} << 32 | token.typed_data()[0];
  request.shard = *shard.typed_data();
  request.device = device;
  request.valid = reinterpret_cast<std::uintptr_t>(valid->typed_data());
  request.next = reinterpret_cast<std::uintptr_t>(next->typed_data());
  const std::uint32_t kind = feed_request(request, {fields.data(), fields.size()});
  return kind == 0 ? ffi::Error::Success() : error_of_kind(kind, std::string(take_error_text()));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER(handle_next_batch, next_batch,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::RunId>()
                           .Ctx<ffi::DeviceOrdinal>()
                           .Attr<std::int64_t>("feed")
                           .Arg<ffi::BufferR1<ffi::U32>>()
                           .Arg<ffi::BufferR0<ffi::U32>>()
                           .Ret<ffi::BufferR0<ffi::S32>>()
                           .Ret<ffi::BufferR1<ffi::U32>>()
                           .RemainingRets());

}  // namespace zenith::xla_module

ZENITH_XLA_SYMBOL XLA_FFI_Error* zenith_next_batch(XLA_FFI_CallFrame* frame) {
  return zenith::xla_module::handle_next_batch(frame);
}
