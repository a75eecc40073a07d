//! From a file to the pixels of a region.

use std::cell::Cell;

use zenith_data::transform::Encoded;
use zenith_data::{Error, Result};

use super::bits::ScanData;
use super::block::{Meaningless, skip_block};
use super::boundaries::Boundaries;
use super::coefficients::Coefficients;
use super::cursor::Cursor;
use super::frame::{Colours, Frame};
use super::huffman::Table;
use super::idct::Factors;
use super::index::{GROUP_MCUS, Group, Index, Writer};
use super::kernels::{self, Kernels, Work};
use super::markers::{Markers, Scan, corrupt};
use super::plan::Plan;
use super::planes::Planes;
use super::progressive::PartialScan;
use super::sequential::Sequential;
use super::sink::Sink;
use super::strip::Rows;
use crate::decode::{Format, Info, Limits, Mode, Request};
use crate::orientation::Turn;
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

pub(crate) fn decode(encoded: Encoded<'_>, request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
    with_room(|room| room.decode(encoded, request, limits, into))
}

/// The index of a picture's scan, of each block where `blocks`; nothing where there is none, or the file is wrong.
pub(crate) fn index(bytes: &[u8], blocks: bool, limits: &Limits) -> Vec<u8> {
    with_room(|room| room.index(bytes, blocks, limits)).ok().flatten().unwrap_or_default()
}

fn with_room<T>(work: impl FnOnce(&mut Room) -> T) -> T {
    let mut room = ROOM.take().unwrap_or_default();
    let result = work(&mut room);
    if room.planes.samples.capacity() + room.coefficients.capacity() <= KEPT_BYTES_MAX {
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
    boundaries: Boundaries,
    groups: Vec<Group>,
    coefficients: Coefficients,
    rows: Rows,
    /// Pixels before they are turned.
    stored: Vec<u8>,
}

impl Room {
    fn decode(&mut self, encoded: Encoded<'_>, request: &Request, limits: &Limits, into: &mut Picture) -> Result<()> {
        let bytes = encoded.bytes;
        let mut markers = Markers::new(bytes);
        let frame = markers.read_frame(limits)?;
        let turn = Turn::of_orientation(if request.turn { markers.orientation } else { 1 });
        let (width, height) = (frame.width.div_ceil(request.reduce), frame.height.div_ceil(request.reduce));
        let (width, height) = turn.size(width, height);
        let region = turn.stored(request.region, width, height);
        let plan = Plan::new(&frame, request.reduce, request.coarse && request.reduce > 1, region)?;
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
        let result = if frame.progressive || scan.components.len() < frame.components.len() {
            self.several_scans(bytes, &frame, &plan, &mut markers, scan, limits, (colours, request.mode), pixels)
        } else {
            self.one_scan(encoded, &frame, &plan, &markers, &scan, (colours, request.mode), pixels)
        };
        if result.is_ok() && !upright {
            turn.apply(&stored, into.width, into.height, channels, &mut into.pixels);
        }
        self.stored = stored;
        result
    }

    /// A block takes a bit at least: what has fewer cannot be complete, and no memory is taken for it.
    fn refuse_hopeless(&self, frame: &Frame, scan: &Scan, bytes: &[u8]) -> Result<()> {
        let blocks = |index: usize| {
            let (wide, high) = frame.blocks(&frame.components[index]);
            wide as u64 * high as u64
        };
        let all: u64 = (0..frame.components.len()).map(blocks).sum();
        let here: u64 = scan.components.iter().map(|known| blocks(known.index)).sum();
        if all > 8 * bytes.len() as u64 || scan.spectral_start == 0 && here > self.data.bits() {
            let message = format!("{all} blocks cannot be in {} bytes (truncated?)", bytes.len());
            return Err(corrupt(message, self.data.end));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one picture, each from another place")]
    fn one_scan(
        &mut self,
        Encoded { bytes, hint }: Encoded<'_>,
        frame: &Frame,
        plan: &Plan,
        markers: &Markers<'_>,
        scan: &Scan,
        looks: (Colours, Mode),
        pixels: &mut [u8],
    ) -> Result<()> {
        let mut factors = [[0; 64]; 4];
        take_factors(&mut factors, frame, scan, markers)?;
        self.prepare_tables(frame, scan, markers)?;
        let Self { data, dc, ac, planes, boundaries, groups, rows, .. } = self;
        let cursor = Cursor::new(bytes, data, markers.restart_interval)?;
        let index = Index::new(hint, data.bits());
        let sequential = Sequential::new(frame, plan, scan, planes, (dc, ac), cursor, (boundaries, groups, index))?;
        let source = Source::Bits(Box::new(sequential));
        kernels::dispatch(Decoding { frame, plan, planes, rows, factors: &factors, source, looks, pixels })
    }

    /// `None` where a scan is not read from its beginning anyway, or takes several turns.
    fn index(&mut self, bytes: &[u8], blocks: bool, limits: &Limits) -> Result<Option<Vec<u8>>> {
        let mut markers = Markers::new(bytes);
        let frame = markers.read_frame(limits)?;
        let Some(scan) = markers.next_scan(limits)? else { return Ok(None) };
        if frame.progressive || scan.components.len() < frame.components.len() || markers.restart_interval > 0 {
            return Ok(None);
        }
        self.data.read(bytes, scan.data)?;
        self.refuse_hopeless(&frame, &scan, bytes)?;
        self.prepare_tables(&frame, &scan, &markers)?;
        for known in &scan.components {
            self.ac[known.ac_table].prepare_skip(false);
        }
        let mut in_mcu = Vec::new();
        for (place, known) in scan.components.iter().enumerate() {
            let component = &frame.components[known.index];
            let tables = (&self.dc[known.dc_table], &self.ac[known.ac_table], place & 3);
            in_mcu.extend(std::iter::repeat_n(tables, component.horizontal * component.vertical));
        }
        let mut cursor = Cursor::new(bytes, &self.data, 0)?;
        let mut writer = Writer::new(blocks, self.data.bits());
        for mcu in 0..frame.mcus_wide * frame.mcus_high {
            if !blocks && (mcu % frame.mcus_wide).is_multiple_of(GROUP_MCUS) {
                let group = Group { bit: cursor.bits.position(), predictors: cursor.carried.predictors };
                writer.group(group, scan.components.len());
            }
            for &(dc, ac, place) in &in_mcu {
                let predictor = &mut cursor.carried.predictors[place];
                skip_block(&mut cursor.bits, dc, ac, predictor).map_err(|Meaningless| cursor.error())?;
                if blocks {
                    writer.block(cursor.bits.position());
                }
            }
        }
        cursor.check()?;
        Ok(Some(writer.finish()))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one picture, each from another place")]
    fn several_scans(
        &mut self,
        bytes: &[u8],
        frame: &Frame,
        plan: &Plan,
        markers: &mut Markers<'_>,
        mut scan: Scan,
        limits: &Limits,
        looks: (Colours, Mode),
        pixels: &mut [u8],
    ) -> Result<()> {
        let mut factors = [[0; 64]; 4];
        let mut begun = [false; 4];
        self.coefficients.prepare(frame, plan);
        loop {
            for known in &scan.components {
                let dc = scan.spectral_start == 0;
                if !begun[known.index] && !dc {
                    return Err(corrupt("a component's details come before its DC values", scan.data));
                }
                if !begun[known.index] {
                    take_factors(&mut factors, frame, &scan, markers)?;
                }
            }
            scan.components.iter().for_each(|known| begun[known.index] = true);
            self.prepare_tables(frame, &scan, markers)?;
            let Self { data, dc, ac, coefficients, .. } = &mut *self;
            let cursor = Cursor::new(bytes, data, markers.restart_interval)?;
            let rows = plan.rows.end;
            kernels::dispatch(PartialScan { frame, scan: &scan, dc, ac, cursor, coefficients, rows })?;
            markers.go_on_at(self.data.end);
            // What follows a complete sequential picture is not looked at, as in one scan.
            if !frame.progressive && begun[..frame.components.len()].iter().all(|&begun| begun) {
                break;
            }
            let Some(next) = markers.next_scan(limits)? else { break };
            scan = next;
            self.data.read(bytes, scan.data)?;
            self.refuse_hopeless(frame, &scan, bytes)?;
        }
        if let Some(missing) = begun[..frame.components.len()].iter().position(|&begun| !begun) {
            let message = format!("the picture ends without component {}", frame.components[missing].id);
            return Err(corrupt(message, self.data.end));
        }
        let Self { planes, rows, coefficients, .. } = self;
        let source = Source::Coefficients(coefficients);
        kernels::dispatch(Decoding { frame, plan, planes, rows, factors: &factors, source, looks, pixels })
    }

    fn prepare_tables(&mut self, frame: &Frame, scan: &Scan, markers: &Markers<'_>) -> Result<()> {
        let missing = |kind: &str, slot| corrupt(format!("{kind} table {slot} is not defined"), scan.data);
        let needs_dc = !frame.progressive || scan.spectral_start == 0 && scan.approximation_high == 0;
        let needs_ac = !frame.progressive || scan.spectral_start > 0;
        for known in &scan.components {
            let (dc, ac) = (known.dc_table, known.ac_table);
            if needs_dc {
                self.dc[dc].prepare(markers.dc[dc].as_ref().ok_or_else(|| missing("DC", dc))?);
            }
            if needs_ac {
                self.ac[ac].prepare(markers.ac[ac].as_ref().ok_or_else(|| missing("AC", ac))?);
            }
        }
        Ok(())
    }
}

/// Notes the factors of a scan's components; they are those in force at the first scan of each.
fn take_factors(factors: &mut [Factors; 4], frame: &Frame, scan: &Scan, markers: &Markers<'_>) -> Result<()> {
    for known in &scan.components {
        let slot = frame.components[known.index].quantisation;
        let table = markers.quantisation.get(slot).copied().flatten();
        let missing = || corrupt(format!("quantisation table {slot} is not defined"), scan.data);
        // As 16-bit vectors take them; libjpeg-turbo's do too.
        factors[known.index] = table.ok_or_else(missing)?.map(|factor| factor as i16);
    }
    Ok(())
}

/// Where blocks come from.
enum Source<'a> {
    /// Straight from the scan that holds all of the picture.
    Bits(Box<Sequential<'a>>),
    Coefficients(&'a mut Coefficients),
}

/// Blocks to pixels, row of MCUs by row of MCUs.
struct Decoding<'a> {
    frame: &'a Frame,
    plan: &'a Plan,
    planes: &'a mut Planes,
    rows: &'a mut Rows,
    factors: &'a [Factors; 4],
    source: Source<'a>,
    looks: (Colours, Mode),
    pixels: &'a mut [u8],
}

impl Work for Decoding<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<K: Kernels>(mut self, kernels: K) -> Result<()> {
        let region = self.plan.region;
        let stride = region.width * self.looks.1.channels();
        let mut lines = self.pixels.chunks_exact_mut(stride).zip(region.y..).peekable();
        for row in self.plan.rows.clone() {
            let mut samples = std::mem::take(&mut self.planes.samples);
            let mut sink = Sink::new(kernels, self.factors, &mut samples);
            let result = match &mut self.source {
                Source::Bits(sequential) => sequential.read_row(self.planes, &mut sink),
                Source::Coefficients(stored) => stored.read_row(self.frame, self.plan, self.planes, &mut sink),
            };
            self.planes.samples = samples;
            result?;
            let last = row + 1 == self.plan.rows.end;
            let ready = if last { usize::MAX } else { (row + 1) * self.plan.mcu_height - self.plan.delay() };
            while let Some((line, y)) = lines.next_if(|(_, y)| *y < ready) {
                self.rows.write(kernels, (self.plan, self.planes), self.looks, y, line);
            }
        }
        if lines.next().is_some() { Err(Error::internal("rows of a picture were not written")) } else { Ok(()) }
    }
}
