//! Scans that each bring a part of the coefficients: those of progressive pictures, and sequential ones of single components.

use super::bits::Bits;
use super::block::{Block, Meaningless, read_block, read_dc};
use super::coefficients::Coefficients;
use super::cursor::{Carried, Cursor};
use super::frame::Frame;
use super::huffman::{Entry, Table};
use super::kernels::{Kernels, Work};
use super::markers::{Scan, ScanComponent, ZIGZAG};

/// One scan, down to the last row that is kept.
pub(super) struct PartialScan<'a> {
    pub(super) frame: &'a Frame,
    pub(super) scan: &'a Scan,
    pub(super) dc: &'a [Table; 4],
    pub(super) ac: &'a [Table; 4],
    pub(super) cursor: Cursor<'a>,
    pub(super) coefficients: &'a mut Coefficients,
    /// Rows of MCUs that are kept.
    pub(super) rows: usize,
}

/// What a scan brings of a block.
#[derive(Clone, Copy)]
enum Part {
    Sequential,
    DcFirst,
    DcRefinement,
    AcFirst,
    AcRefinement,
}

impl Work for PartialScan<'_> {
    type Output = zenith_data::Result<()>;

    #[inline(always)]
    fn run<K: Kernels>(mut self, _: K) -> zenith_data::Result<()> {
        let part = match (self.frame.progressive, self.scan.spectral_start, self.scan.approximation_high) {
            (false, ..) => Part::Sequential,
            (true, 0, 0) => Part::DcFirst,
            (true, 0, _) => Part::DcRefinement,
            (true, _, 0) => Part::AcFirst,
            (true, ..) => Part::AcRefinement,
        };
        match self.scan.components[..] {
            [known] => self.component(part, known),
            _ => self.interleaved(part),
        }
    }
}

impl PartialScan<'_> {
    /// The blocks of one component, without those that only fill MCUs.
    #[inline(always)]
    fn component(&mut self, part: Part, known: ScanComponent) -> zenith_data::Result<()> {
        let stored = self.coefficients.component(known.index);
        let (wide, high) = self.frame.blocks(&self.frame.components[known.index]);
        for down in 0..high.min(stored.rows) {
            for across in 0..wide {
                self.cursor.next_mcu()?;
                self.block(part, 0, known, across, down)?;
            }
            self.cursor.check()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn interleaved(&mut self, part: Part) -> zenith_data::Result<()> {
        for row in 0..self.rows {
            for column in 0..self.frame.mcus_wide {
                self.cursor.next_mcu()?;
                for (place, &known) in self.scan.components.iter().enumerate() {
                    let component = self.frame.components[known.index];
                    for (down, across) in
                        (0..component.vertical).flat_map(|v| (0..component.horizontal).map(move |h| (v, h)))
                    {
                        let across = column * component.horizontal + across;
                        self.block(part, place, known, across, row * component.vertical + down)?;
                    }
                }
            }
            self.cursor.check()?;
        }
        Ok(())
    }

    #[inline(always)]
    fn block(
        &mut self,
        part: Part,
        place: usize,
        known: ScanComponent,
        across: usize,
        down: usize,
    ) -> zenith_data::Result<()> {
        let stored = self.coefficients.component(known.index);
        let (block, busy) = self.coefficients.block(stored, across, down);
        let (dc, ac) = (&self.dc[known.dc_table], &self.ac[known.ac_table]);
        let Carried { predictors, end_of_block_run } = &mut self.cursor.carried;
        let (bits, predictor, low) = (&mut self.cursor.bits, &mut predictors[place & 3], self.scan.approximation_low);
        let band =
            Band { first: self.scan.spectral_start.into(), last: self.scan.spectral_end.into(), low: low.into() };
        let done = match part {
            Part::Sequential => read_block(bits, dc, ac, predictor, block).map(|end| *busy = end > 1),
            Part::DcFirst => read_dc(bits, dc, predictor).map(|()| block[0] = (*predictor << low) as i16),
            Part::DcRefinement => {
                bits.refill();
                block[0] |= (bits.number(1) << low) as i16;
                Ok(())
            }
            Part::AcFirst if *end_of_block_run > 0 => {
                *end_of_block_run -= 1;
                Ok(())
            }
            Part::AcFirst => {
                *busy = true;
                first(bits, ac, end_of_block_run, band, block)
            }
            Part::AcRefinement if *end_of_block_run > 0 && !*busy => {
                *end_of_block_run -= 1;
                Ok(())
            }
            Part::AcRefinement => {
                *busy = true;
                refine(bits, ac, end_of_block_run, band, block)
            }
        };
        done.map_err(|Meaningless| self.cursor.error())
    }
}

/// Coefficients of a scan, and the binary place that it brings.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    low: u32,
}

/// Coefficients without their lowest bits.
#[inline(always)]
fn first(bits: &mut Bits<'_>, ac: &Table, run: &mut u32, band: Band, block: &mut Block) -> Result<(), Meaningless> {
    let mut place = band.first;
    while place <= band.last {
        let entry = code(bits, ac)?;
        let (zeros, size) = (usize::from(entry.symbol() >> 4), entry.size());
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) - 1 + bits.number(zeros as u32);
            return Ok(());
        }
        place += zeros;
        if place > 63 {
            return Err(Meaningless);
        }
        let (number, least) = (bits.number(size) as i32, 1 << size >> 1);
        let value = if number < least { number + 1 - (1 << size) } else { number };
        block[usize::from(ZIGZAG[place])] = (value << band.low) as i16;
        place += 1;
    }
    Ok(())
}

/// One more bit of coefficients that are known, and those that begin with this bit.
#[inline(always)]
fn refine(bits: &mut Bits<'_>, ac: &Table, run: &mut u32, band: Band, block: &mut Block) -> Result<(), Meaningless> {
    let mut place = band.first;
    while *run == 0 && place <= band.last {
        let entry = code(bits, ac)?;
        let (zeros, size) = (u32::from(entry.symbol() >> 4), entry.size());
        if size == 0 && zeros < 15 {
            *run = (1 << zeros) + bits.number(zeros);
            break;
        }
        // libjpeg takes any size for 1, which is the only one there can be.
        let value = match size {
            0 => 0,
            _ if bits.number(1) == 1 => 1 << band.low,
            _ => -1 << band.low,
        };
        place = correct(bits, band, block, place, zeros);
        if place <= band.last {
            block[usize::from(ZIGZAG[place & 63])] = value;
        } else if value != 0 {
            return Err(Meaningless);
        }
        place += 1;
    }
    if *run > 0 {
        correct(bits, band, block, place, u32::MAX);
        *run -= 1;
    }
    Ok(())
}

/// Passes over `zeros` coefficients that are still zero, with a bit for each that is not; the place of the next zero.
#[inline(always)]
fn correct(bits: &mut Bits<'_>, band: Band, block: &mut Block, mut place: usize, mut zeros: u32) -> usize {
    let step = 1i16 << band.low;
    while place <= band.last {
        let value = &mut block[usize::from(ZIGZAG[place & 63])];
        if *value == 0 {
            if zeros == 0 {
                break;
            }
            zeros -= 1;
        } else {
            bits.refill();
            if bits.number(1) == 1 && *value & step == 0 {
                *value = value.wrapping_add(if *value > 0 { step } else { -step });
            }
        }
        place += 1;
    }
    place
}

/// The next code; the bits behind it are ready, up to 16.
#[inline(always)]
fn code(bits: &mut Bits<'_>, ac: &Table) -> Result<Entry, Meaningless> {
    bits.refill();
    let mut entry = ac.entry(bits.window());
    if entry.is_none() {
        entry = ac.long_entry(bits.window()).ok_or(Meaningless)?;
    }
    bits.take(entry.code_bits());
    Ok(entry)
}
