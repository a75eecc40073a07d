//! From a file to the pixels of a region.

use std::cell::Cell;

use zenith_data::{Error, Result};

use super::bits::ScanData;
use super::cursor::Cursor;
use super::exif::Turn;
use super::frame::{Colours, Frame};
use super::huffman::Table;
use super::idct::Factors;
use super::kernels::{self, Kernels, Work};
use super::markers::{Markers, Scan, corrupt};
use super::plan::Plan;
use super::planes::Planes;
use super::sequential::Sequential;
use super::sink::Sink;
use super::strip::Rows;
use crate::decode::{Format, Info, Limits, Mode, Request};
use crate::picture::Picture;

/// What one picture's room may grow to and still be kept for the next.
const KEPT_BYTES_MAX: usize = 64 << 20;

pub(crate) fn probe(bytes: &[u8], turn: bool, limits: &Limits) -> Result<Info> {
    let mut markers = Markers::new(bytes);
    let frame = markers.read_frame(limits)?;
    let turn = Turn::of_orientation(if turn { markers.orientation } else { 1 });
    let (width, height) = turn.size(frame.width, frame.height);
    Ok(Info { format: Format::Jpeg, width, height })
}

pub(crate) fn decode(bytes: &[u8], request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
    let mut room = ROOM.take().unwrap_or_default();
    let result = room.decode(bytes, request, limits, into);
    if room.planes.samples.capacity() <= KEPT_BYTES_MAX {
        ROOM.set(Some(room));
    }
    result
}

thread_local! {
    static ROOM: Cell<Option<Box<Room>>> = const { Cell::new(None) };
}

/// What decoding needs besides the pixels. Each thread keeps its own, so that decoding many pictures allocates next to
/// nothing.
#[derive(Debug, Default)]
struct Room {
    data: ScanData,
    dc: [Table; 4],
    ac: [Table; 4],
    planes: Planes,
    rows: Rows,
    /// Pixels before they are turned.
    stored: Vec<u8>,
}

impl Room {
    fn decode(&mut self, bytes: &[u8], request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
        let mut markers = Markers::new(bytes);
        let frame = markers.read_frame(limits)?;
        let turn = Turn::of_orientation(if request.turn { markers.orientation } else { 1 });
        let (width, height) = (frame.width.div_ceil(request.reduce), frame.height.div_ceil(request.reduce));
        let (width, height) = turn.size(width, height);
        let region = turn.stored(request.region, width, height);
        let plan = Plan::new(&frame, request.reduce, region)?;
        let Some(scan) = markers.next_scan(limits)? else { return Err(corrupt("there is no scan", bytes.len())) };
        self.data.read(bytes, scan.data)?;
        self.refuse_hopeless(&frame, &scan, bytes)?;

        let channels = request.mode.channels();
        (into.width, into.height, into.channels) = (request.region.width, request.region.height, channels);
        into.pixels.resize(into.width * into.height * channels, 0);
        self.planes.prepare(&frame, &plan);
        self.rows.prepare(&plan);
        let colours = markers.colours(&frame);
        let mut stored = std::mem::take(&mut self.stored);
        let upright = turn == Turn::default();
        if !upright {
            stored.resize(into.pixels.len(), 0);
        }
        let pixels = if upright { &mut into.pixels } else { &mut stored };
        let result = self.decode_into(bytes, &frame, &plan, &markers, &scan, colours, request.mode, pixels);
        if result.is_ok() && !upright {
            turn.apply(&stored, into.width, into.height, channels, &mut into.pixels);
        }
        self.stored = stored;
        result
    }

    /// A block takes a bit at least: what has fewer cannot be complete, and no memory is taken for it.
    fn refuse_hopeless(&self, frame: &Frame, scan: &Scan, bytes: &[u8]) -> Result<()> {
        let blocks: usize = scan
            .components
            .iter()
            .map(|known| frame.blocks(&frame.components[known.index]))
            .map(|(wide, high)| wide * high)
            .sum();
        if scan.spectral_start == 0 && blocks as u64 > self.data.bits() {
            let message = format!("{blocks} blocks cannot be in a scan of {} bytes (truncated?)", self.data.bits() / 8);
            return Err(corrupt(message, self.data.end.min(bytes.len())));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one picture, each from another place")]
    fn decode_into(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        plan: &Plan,
        markers: &Markers<'_>,
        scan: &Scan,
        colours: Colours,
        mode: Mode,
        pixels: &mut [u8],
    ) -> Result<()> {
        let factors = factors(frame, scan, markers)?;
        self.prepare_tables(scan, markers, true)?;
        let Self { data, dc, ac, planes, rows, .. } = self;
        let cursor = Cursor::new(bytes, data, markers.restart_interval)?;
        let sequential = Sequential::new(frame, plan, scan, planes, (dc, ac), cursor)?;
        let work = Decoding { plan, planes, rows, factors: &factors, sequential, colours, mode, pixels };
        kernels::dispatch(work)
    }

    fn prepare_tables(&mut self, scan: &Scan, markers: &Markers<'_>, skipping: bool) -> Result<()> {
        let missing = |kind: &str, slot| corrupt(format!("{kind} table {slot} is not defined"), scan.data);
        for known in &scan.components {
            let (dc, ac) = (known.dc_table, known.ac_table);
            self.dc[dc].prepare(markers.dc[dc].as_ref().ok_or_else(|| missing("DC", dc))?);
            self.ac[ac].prepare(markers.ac[ac].as_ref().ok_or_else(|| missing("AC", ac))?);
            if skipping {
                self.ac[ac].prepare_skip();
            }
        }
        Ok(())
    }
}

fn factors(frame: &Frame, scan: &Scan, markers: &Markers<'_>) -> Result<[Factors; 4]> {
    let mut factors = [[0; 64]; 4];
    for known in &scan.components {
        let slot = frame.components[known.index].quantisation;
        let table = markers.quantisation.get(slot).copied().flatten();
        let missing = || corrupt(format!("quantisation table {slot} is not defined"), scan.data);
        // As 16-bit vectors take them; libjpeg-turbo's do too.
        factors[known.index] = table.ok_or_else(missing)?.map(|factor| factor as i16);
    }
    Ok(factors)
}

/// Blocks to pixels, row of MCUs by row of MCUs.
struct Decoding<'a> {
    plan: &'a Plan,
    planes: &'a mut Planes,
    rows: &'a mut Rows,
    factors: &'a [Factors; 4],
    sequential: Sequential<'a>,
    colours: Colours,
    mode: Mode,
    pixels: &'a mut [u8],
}

impl Work for Decoding<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<K: Kernels>(mut self, kernels: K) -> Result<()> {
        let region = self.plan.region;
        let stride = region.width * self.mode.channels();
        let mut lines = self.pixels.chunks_exact_mut(stride).zip(region.y..).peekable();
        for row in self.plan.rows.clone() {
            let mut samples = std::mem::take(&mut self.planes.samples);
            let mut sink = Sink::new(kernels, self.factors, &mut samples);
            let result = self.sequential.read_row(self.planes, &mut sink);
            self.planes.samples = samples;
            result?;
            let last = row + 1 == self.plan.rows.end;
            let ready = if last { usize::MAX } else { (row + 1) * self.plan.mcu_height - self.plan.delay() };
            while let Some((line, y)) = lines.next_if(|(_, y)| *y < ready) {
                self.rows.write(kernels, (self.plan, self.planes), (self.colours, self.mode), y, line);
            }
        }
        if lines.next().is_some() { Err(Error::internal("rows of a picture were not written")) } else { Ok(()) }
    }
}
