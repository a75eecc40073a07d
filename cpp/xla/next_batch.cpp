// The handler behind zenith_jax.next_batch: (token, shard) -> (samples in the batch, next token, fields...).
#include "ffi.h"

#include <memory>
#include <vector>

namespace zenith::xla_module {
namespace {

// What the engine calls when the buffers are written, or will not be; the context is the promise.
void complete(void* context, std::uint32_t kind, const std::uint8_t* text, std::size_t bytes) {
  const std::unique_ptr<ffi::Promise> promise(static_cast<ffi::Promise*>(context));
  if (kind == 0) {
    promise->SetAvailable();
  } else {
    promise->SetError(error_of_kind(kind, std::string(reinterpret_cast<const char*>(text), bytes)));
  }
}

ffi::Future failed(ffi::Error error) {
  ffi::Promise promise;
  ffi::Future future(promise);
  promise.SetError(std::move(error));
  return future;
}

// Answers at once or later; the thread is never blocked, for the device that others wait for may need it.
ffi::Future next_batch(ffi::RunId run, std::int64_t feed, ffi::BufferR1<ffi::U32> token, ffi::BufferR0<ffi::U32> shard,
                       ffi::ResultBufferR0<ffi::S32> valid, ffi::ResultBufferR1<ffi::U32> next,
                       ffi::RemainingRets results) {
  if (token.element_count() != 2 || next->element_count() != 2) {
    return failed(ffi::Error::InvalidArgument("a token has two numbers of 32 bits"));
  }
  std::vector<TensorView> fields;
  fields.reserve(results.size());
  for (std::size_t index = 0; index < results.size(); ++index) {
    auto result = results.get<ffi::AnyBuffer>(index);
    if (!result.has_value()) {
      return failed(result.error());
    }
    const ffi::AnyBuffer buffer = *result.value();
    const auto dtype = engine_dtype(buffer.element_type());
    if (!dtype) {
      return failed(ffi::Error::Internal("a result of next_batch has an element type that no field has"));
    }
    fields.push_back({reinterpret_cast<std::uintptr_t>(buffer.untyped_data()), buffer.size_bytes(), *dtype,
                      buffer.dimensions().size()});
  }
  auto promise = std::make_unique<ffi::Promise>();
  ffi::Future future(*promise);
  FeedRequest request{};
  request.feed = static_cast<std::uint64_t>(feed);
  request.run = run.run_id;
  request.batch = std::uint64_t{token.typed_data()[1]} << 32 | token.typed_data()[0];
  request.shard = *shard.typed_data();
  request.valid = reinterpret_cast<std::uintptr_t>(valid->typed_data());
  request.next = reinterpret_cast<std::uintptr_t>(next->typed_data());
  request.complete = reinterpret_cast<std::uintptr_t>(&complete);
  request.context = reinterpret_cast<std::uintptr_t>(promise.release());
  feed_request(request, {fields.data(), fields.size()});
  return future;
}

}  // namespace

XLA_FFI_DEFINE_HANDLER(handle_next_batch, next_batch,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::RunId>()
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
