//! What the handlers of XLA call: batches of a feed, written into the buffers of a device program, and pictures as numbers.
//!
//! XLA-1: the addresses of a request are valid, and nobody else's, until its completion was called; it is called exactly
//! once, and nothing is written after it.
#![expect(unsafe_code, reason = "writes into buffers of XLA and calls a function of the XLA module")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use zenith::data::{DType, Error, Result};
use zenith::feed::{Ask, Feed, Reply, Served};
use zenith::image::normalize;
use zenith::image::transforms::Layout;

use crate::bridge::{FeedRequest, TensorView, known_dtype, set_error};
use crate::guard::guard;

/// Keeps a feed reachable under its number; dropping it makes the number stale (FFI-2).
pub(crate) struct FeedRegistration {
    id: u64,
}

impl FeedRegistration {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        // Numbers are never used twice: compiled programs hold them for as long as the process lives.
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        FEEDS.write().unwrap_or_else(PoisonError::into_inner).insert(id, feed);
        Self { id }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for FeedRegistration {
    fn drop(&mut self) {
        let feed = FEEDS.write().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        // Outside the lock: it joins a thread.
        drop(feed);
    }
}

fn find(id: u64) -> Result<Arc<Feed>> {
    FEEDS.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().ok_or_else(|| {
        Error::invalid(format!(
            "there is no open feed with number {id}: it was closed, or this program was compiled elsewhere"
        ))
    })
}

static FEEDS: LazyLock<RwLock<HashMap<u64, Arc<Feed>>>> = LazyLock::new(RwLock::default);

/// A function of the XLA module: kind of the error (0: none) and its text, which lives during the call.
type Complete = unsafe extern "C" fn(context: *mut c_void, kind: u32, text: *const u8, bytes: usize);

/// The buffers that wait for a batch, and whom to tell.
struct Buffers {
    fields: Vec<Buffer>,
    /// An i32, and two u32: the low and the high half of the next batch's number.
    valid: *mut i32,
    next: *mut [u32; 2],
    complete: Complete,
    context: *mut c_void,
    is_told: bool,
}

struct Buffer {
    place: *mut u8,
    bytes: usize,
    dtype: Option<DType>,
}

// SAFETY: XLA-1: any thread may write the buffers and call the completion, one of them at a time.
unsafe impl Send for Buffers {}

impl Buffers {
    fn tell(&mut self, kind: u32, text: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            // SAFETY: XLA-1: told once.
            unsafe { (self.complete)(self.context, kind, text.as_ptr(), text.len()) };
        }
    }

    fn write(&mut self, rows: &Served<'_>) -> Result<()> {
        for (index, buffer) in self.fields.iter().enumerate() {
            if buffer.bytes == 0 {
                continue;
            }
            // SAFETY: XLA-1: as many bytes, in a buffer that XLA lets this call write.
            let into = unsafe { std::slice::from_raw_parts_mut(buffer.place, buffer.bytes) };
            match rows.field(index) {
                Some(from) if from.len() == into.len() => into.copy_from_slice(from),
                None if rows.is_past_the_end() => into.fill(0),
                held => {
                    let (held, bytes) = (held.map_or(0, <[u8]>::len), buffer.bytes);
                    let message =
                        format!("field {index} of the feed has {held} bytes for a shard, the program expects {bytes}");
                    return Err(Error::internal(message));
                }
            }
        }
        let next = if rows.is_past_the_end() { rows.ask.batch } else { rows.ask.batch + 1 };
        // SAFETY: XLA-1: results of these types.
        unsafe {
            self.valid.write_unaligned(i32::try_from(rows.valid()).unwrap_or(i32::MAX));
            self.next.write_unaligned([next as u32, (next >> 32) as u32]);
        }
        Ok(())
    }

    /// Whether the program was compiled for this feed's fields.
    fn check(&self, feed: &Feed) -> Result<()> {
        let fields = &feed.layout().fields;
        let agree = fields.len() == self.fields.len()
            && fields.iter().zip(&self.fields).all(|(field, buffer)| Some(field.dtype) == buffer.dtype);
        agree
            .then_some(())
            .ok_or_else(|| Error::internal("the program was compiled for other fields than the feed has"))
    }
}

impl Reply for Buffers {
    fn serve(mut self: Box<Self>, rows: Served<'_>) {
        match guard("next_batch", || self.write(&rows)) {
            Ok(()) => self.tell(0, ""),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(mut self: Box<Self>, error: &Error) {
        self.tell(error.kind() as u32, &error.to_string());
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // Nobody's answer would let a device wait for ever.
        let error = Error::internal("a request for a batch was dropped");
        self.tell(error.kind() as u32, error.message());
    }
}

/// See the bridge.
///
/// # Safety
/// XLA-1 for all addresses of `request` and `fields`.
pub(crate) unsafe fn feed_request(request: &FeedRequest, fields: &[TensorView]) {
    // SAFETY: the caller's promise: the address of a function of this type.
    let complete = unsafe { std::mem::transmute::<usize, Complete>(request.complete) };
    let fields = fields.iter().map(|field| Buffer {
        place: std::ptr::with_exposed_provenance_mut(field.data),
        bytes: field.bytes,
        dtype: known_dtype(field.dtype),
    });
    let buffers = Box::new(Buffers {
        fields: fields.collect(),
        valid: std::ptr::with_exposed_provenance_mut(request.valid),
        next: std::ptr::with_exposed_provenance_mut(request.next),
        complete,
        context: std::ptr::with_exposed_provenance_mut(request.context),
        is_told: false,
    });
    let ask = Ask { run: request.run, batch: request.batch, shard: request.shard as usize };
    let found = find(request.feed).and_then(|feed| buffers.check(&feed).map(|()| feed));
    match found {
        // A panic drops the buffers, which tell of it.
        Ok(feed) => drop(guard("next_batch", || {
            feed.ask(ask, buffers);
            Ok(())
        })),
        Err(error) => buffers.fail(&error),
    }
}

/// What levels become, or nothing where the request made no sense; then the error waits in this thread.
pub(crate) struct Normalization(Option<normalize::Normalization>);

pub(crate) fn normalization(
    mean: &[f32],
    std: &[f32],
    scale: f32,
    dtype: Option<DType>,
    planes: bool,
) -> Box<Normalization> {
    let layout = if planes { Layout::Planes } else { Layout::Pixels };
    let made = guard("normalize", || {
        let dtype = dtype.ok_or_else(|| Error::invalid("normalize: dtype must be float32, float16 or bfloat16"))?;
        normalize::Normalization::new(mean, std, scale, dtype, layout)
    });
    Box::new(Normalization(made.map_err(set_error).ok()))
}

impl Normalization {
    pub(crate) fn is_valid(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn apply(&self, levels: &[u8], height: usize, width: usize, output: &mut [u8]) -> bool {
        let done = guard("normalize", || match &self.0 {
            Some(by) => by.apply(levels, [height, width], output),
            None => Err(Error::internal("normalize was refused before")),
        });
        done.map_err(set_error).is_ok()
    }
}
