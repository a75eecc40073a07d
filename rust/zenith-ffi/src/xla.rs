//! What the handlers of XLA call: batches of a feed, written into the buffers of a device program, and pictures as numbers.
//!
//! XLA-1: the addresses of a request are those of results that XLA lets this call write: valid, nobody else's, until it returns.
#![expect(unsafe_code, reason = "writes into buffers of XLA")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use zenith::data::{DType, Error, Result};
use zenith::feed::{Ask, Feed, Served};
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

/// Whether the program was compiled for this feed's fields.
fn check(feed: &Feed, fields: &[TensorView]) -> Result<()> {
    let held = &feed.layout().fields;
    let agree = held.len() == fields.len()
        && held.iter().zip(fields).all(|(held, field)| Some(held.dtype) == known_dtype(field.dtype));
    agree.then_some(()).ok_or_else(|| Error::internal("the program was compiled for other fields than the feed has"))
}

/// See the bridge: 0, or the kind of the error that waits in this thread.
///
/// # Safety
/// XLA-1 for all addresses of `request` and `fields`.
pub(crate) unsafe fn feed_request(request: &FeedRequest, fields: &[TensorView]) -> u32 {
    let answered = guard("next_batch", || {
        let feed = find(request.feed)?;
        check(&feed, fields)?;
        let ask = Ask { run: request.run, batch: request.batch, shard: request.shard as usize, device: request.device };
        let rows = feed.ask(ask)?;
        for (index, field) in fields.iter().enumerate() {
            // SAFETY: XLA-1, the caller's promise.
            unsafe { write(&rows, index, field)? };
        }
        let next = if rows.is_past_the_end() { ask.batch } else { ask.batch + 1 };
        let (valid, place) = (std::ptr::with_exposed_provenance_mut(request.valid), request.next);
        // SAFETY: XLA-1: results of these types.
        unsafe {
            std::ptr::write_unaligned(valid, i32::try_from(rows.valid()).unwrap_or(i32::MAX));
            let place = std::ptr::with_exposed_provenance_mut::<[u32; 2]>(place);
            place.write_unaligned([next as u32, (next >> 32) as u32]);
        }
        Ok(())
    });
    answered.map_or_else(
        |error| {
            let kind = error.kind() as u32;
            set_error(error);
            kind
        },
        |()| 0,
    )
}

/// Writes a field's rows, or zeros past the end.
///
/// # Safety
/// XLA-1 for `field`.
unsafe fn write(rows: &Served, index: usize, field: &TensorView) -> Result<()> {
    if field.bytes == 0 {
        return Ok(());
    }
    // SAFETY: XLA-1: as many bytes, which this call may write.
    let into =
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(field.data), field.bytes) };
    match rows.field(index) {
        Some(from) if from.len() == into.len() => into.copy_from_slice(from),
        None if rows.is_past_the_end() => into.fill(0),
        held => {
            let (held, bytes) = (held.map_or(0, <[u8]>::len), field.bytes);
            let message =
                format!("field {index} of the feed has {held} bytes for a shard, the program expects {bytes}");
            return Err(Error::internal(message));
        }
    }
    Ok(())
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
