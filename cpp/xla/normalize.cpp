// The handler behind zenith_jax.normalize: levels [..., height, width, channels] -> numbers, in that layout or with the
// channels before the rows.
#include "ffi.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "huge_pages.h"

namespace zenith::xla_module {
namespace {

// What a task takes at a time: enough to be worth an atomic, little enough that all threads end together.
constexpr std::size_t kPieceBytes = std::size_t{128} << 10;

// The pictures of one call. Whoever finishes the last piece tells XLA, so that no thread waits for another.
struct Work {
  rust::Box<Normalization> by;
  const std::uint8_t* levels;
  std::uint8_t* output;
  std::size_t pictures, height, width, picture_levels, picture_bytes, piece;
  std::atomic<std::size_t> next{0}, done{0};
  std::atomic<bool> has_failed{false};
  ffi::Error error;
  ffi::Promise promise;

  // Takes pieces until there are none.
  void run() {
    for (std::size_t first; (first = next.fetch_add(piece)) < pictures;) {
      const std::size_t count = std::min(piece, pictures - first);
      const rust::Slice<const std::uint8_t> from(levels + first * picture_levels, count * picture_levels);
      const rust::Slice<std::uint8_t> into(output + first * picture_bytes, count * picture_bytes);
      if (!by->apply(from, height, width, into) && !has_failed.exchange(true)) {
        error = ffi::Error::Internal(std::string(take_error_text()));
      }
      if (done.fetch_add(count) + count == pictures) {
        tell();
      }
    }
  }

  void tell() {
    if (has_failed.load()) {
      promise.SetError(std::move(error));
    } else {
      promise.SetAvailable();
    }
  }
};

ffi::Future failed(ffi::Error error) {
  ffi::Promise promise;
  ffi::Future future(promise);
  promise.SetError(std::move(error));
  return future;
}

ffi::Future normalize(ffi::ThreadPool threads, ffi::Span<const float> mean, ffi::Span<const float> std, float scale,
                      bool planes, ffi::Buffer<ffi::U8> images, ffi::Result<ffi::AnyBuffer> output) {
  const auto extents = images.dimensions();
  const auto dtype = engine_dtype(output->element_type());
  if (extents.size() < 3 || !dtype || output->element_count() != images.element_count() ||
      static_cast<std::size_t>(extents.back()) != mean.size()) {
    return failed(ffi::Error::InvalidArgument("normalize: images and output do not fit each other"));
  }
  auto by = normalization({mean.begin(), mean.size()}, {std.begin(), std.size()}, scale, *dtype, planes);
  if (!by->is_valid()) {
    return failed(ffi::Error::InvalidArgument(std::string(take_error_text())));
  }
  const auto extent = [&extents](std::size_t from_end) {
    return static_cast<std::size_t>(extents[extents.size() - from_end]);
  };
  const std::size_t picture = extent(3) * extent(2) * extent(1);
  auto work = std::shared_ptr<Work>(new Work{std::move(by)});
  ffi::Future future(work->promise);
  if (images.element_count() == 0) {
    work->promise.SetAvailable();
    return future;
  }
  work->levels = images.typed_data();
  work->output = static_cast<std::uint8_t*>(output->untyped_data());
  work->pictures = images.element_count() / picture;
  work->height = extent(3);
  work->width = extent(2);
  work->picture_levels = picture;
  work->picture_bytes = picture * ffi::ByteWidth(output->element_type());
  work->piece = std::max<std::size_t>(1, kPieceBytes / picture);
  ask_for_huge_pages(work->output, output->size_bytes());
  const std::size_t pieces = (work->pictures + work->piece - 1) / work->piece;
  const auto helpers = std::min<std::size_t>(pieces, std::max<std::int64_t>(threads.num_threads(), 1)) - 1;
  for (std::size_t helper = 0; helper < helpers; ++helper) {
    threads.Schedule([work] { work->run(); });
  }
  work->run();
  return future;
}

}  // namespace

XLA_FFI_DEFINE_HANDLER(handle_normalize, normalize,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .Attr<ffi::Span<const float>>("mean")
                           .Attr<ffi::Span<const float>>("std")
                           .Attr<float>("scale")
                           .Attr<bool>("planes")
                           .Arg<ffi::Buffer<ffi::U8>>()
                           .Ret<ffi::AnyBuffer>());

}  // namespace zenith::xla_module

ZENITH_XLA_SYMBOL XLA_FFI_Error* zenith_normalize(XLA_FFI_CallFrame* frame) {
  return zenith::xla_module::handle_normalize(frame);
}
