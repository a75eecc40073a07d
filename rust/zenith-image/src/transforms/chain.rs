//! Transforms in their order, checked: geometry is put off for as long as it can be, levels are changed where they must be,
//! and numbers are made in the last pass.

use std::cell::RefCell;

use zenith_data::transform::{DrawKey, Encoded};
use zenith_data::{DType, Error, Result};

use super::compose::{Compose, DecodeMode, Spec};
use super::draws::Draws;
use super::erasing::{Numbers as Erased, RandomErasing};
use super::numbers::{Numbers, Table};
use super::ops::{blur, enhance};
use super::output::{Layout, Output};
use super::render::{Decoding, Renderer, Source, check_pixels, fill_picture, reduction};
use super::view::View;
use crate::decode::{self, Limits};
use crate::picture::Picture;
use crate::resize::Pixels;

#[derive(Debug)]
pub struct Chain {
    compose: Compose,
    /// What changes pixels; numbers begin behind it.
    pixels: usize,
    dtype: DType,
    table: Table,
    /// Of numbers, with their places.
    erasings: Vec<(usize, RandomErasing)>,
    decoding: Decoding,
}

/// What became of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub bytes: Vec<u8>,
    pub dtype: DType,
    /// [height, width, channels] or [channels, height, width], as the layout says.
    pub shape: [usize; 3],
}

/// Kept by each thread, so that a picture allocates nothing once one as large was there.
#[derive(Debug, Default)]
struct Scratch {
    renderer: Renderer,
    /// Levels between two transforms.
    current: Picture,
    spare: Picture,
    bytes: Vec<u8>,
    blur: blur::Scratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Chain {
    pub fn from_json(json: &str) -> Result<Self> {
        Self::compile(Compose::from_json(json)?)
    }

    /// Errors: an order that makes no sense.
    pub fn compile(compose: Compose) -> Result<Self> {
        let channels = compose.mode.channels();
        let mut numbers = Numbers::new(channels);
        let mut erasings = Vec::new();
        let mut pixels = None;
        for (place, spec) in compose.transforms.iter().enumerate() {
            spec.check(channels)?;
            match spec {
                Spec::ToDtype(to) => numbers.convert(to)?,
                Spec::Normalize(by) if erasings.is_empty() => numbers.normalize(by)?,
                Spec::Normalize(_) => {
                    return Err(Error::invalid(
                        "Normalize must come before RandomErasing, which writes numbers as they are left",
                    ));
                }
                Spec::RandomErasing(erasing) if numbers.dtype == DType::U8 => erasing.check_levels(channels)?,
                Spec::RandomErasing(erasing) => erasings.push((place, erasing.clone())),
                _ if numbers.dtype != DType::U8 => {
                    let (name, dtype) = (spec.name(), numbers.dtype.name());
                    return Err(Error::invalid(format!("{name} works on uint8; put it before ToDtype(\"{dtype}\")")));
                }
                _ => {}
            }
            if numbers.dtype != DType::U8 {
                pixels.get_or_insert(place);
            }
        }
        let decoding = Decoding {
            mode: compose.mode.decoded(),
            turn: compose.exif,
            fast: compose.decode == DecodeMode::Fast,
            limits: Limits::default(),
        };
        let pixels = pixels.unwrap_or(compose.transforms.len());
        Ok(Self { pixels, dtype: numbers.dtype, table: numbers.table(), erasings, decoding, compose })
    }

    pub fn compose(&self) -> &Compose {
        &self.compose
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn is_random(&self) -> bool {
        self.compose.transforms.iter().any(Spec::is_random)
    }

    /// [height, width, channels] in the order of the layout.
    pub fn shape(&self, [height, width]: [usize; 2]) -> [usize; 3] {
        let channels = self.compose.mode.channels();
        match self.compose.layout {
            Layout::Pixels => [height, width, channels],
            Layout::Planes => [channels, height, width],
        }
    }

    /// The part of a picture of these sides that the first transforms take, as far as no pixel has to be read.
    pub fn view(&self, width: usize, height: usize, key: DrawKey) -> Result<View> {
        if width == 0 || height == 0 {
            return Err(Error::invalid("a picture must have at least one pixel"));
        }
        let mut view = View::whole(width, height);
        for (place, spec) in self.compose.transforms.iter().enumerate().take(self.pixels) {
            if !is_geometry(spec) || must_render(spec, &view) {
                break;
            }
            bend(spec, &mut view, &mut Draws::new(key, place))?;
        }
        Ok(view)
    }

    /// `view`, described.
    pub fn view_json(&self, width: usize, height: usize, key: DrawKey) -> Result<String> {
        let view = self.view(width, height, key)?;
        serde_json::to_string(&view).map_err(|error| Error::internal(format!("a view cannot be written: {error}")))
    }

    /// Of a file's bytes.
    pub fn apply(&self, bytes: &[u8], key: DrawKey) -> Result<Made> {
        self.made(self.source(bytes.into())?, key)
    }

    /// Of a file's bytes, to where it is wanted; the size must be `size`, (height, width).
    pub fn apply_into(&self, encoded: Encoded<'_>, key: DrawKey, size: [usize; 2], into: &mut [u8]) -> Result<()> {
        self.run(self.source(encoded)?, key, |made| {
            if made == size {
                return Ok(into);
            }
            Err(Error::internal(format!("transforms made {made:?} (height, width) where {size:?} was announced")))
        })
    }

    /// What makes `apply_into` quicker for the same file (`decode::index`).
    pub fn hint(&self, bytes: &[u8]) -> Vec<u8> {
        // Blocks are needed where they are wanted at an eighth. That depends on the draws, so one of them stands for all.
        let at_an_eighth = || {
            let source = self.source(bytes.into()).ok()?;
            let (width, height) = source.size();
            let view = self.view(width, height, DrawKey::default()).ok()?;
            let scaled = view.scaled.as_ref()?;
            Some(reduction(source, view.source, (scaled.width, scaled.height), self.decoding.fast) == 8)
        };
        decode::index(bytes, at_an_eighth() == Some(true), &self.decoding.limits)
    }

    fn source<'a>(&self, encoded: Encoded<'a>) -> Result<Source<'a>> {
        let info = decode::probe(encoded.bytes, self.decoding.turn, &self.decoding.limits)?;
        Ok(Source::Encoded { encoded, width: info.width, height: info.height })
    }

    /// Of levels.
    pub fn apply_pixels(&self, pixels: Pixels<'_>, key: DrawKey) -> Result<Made> {
        let channels = self.compose.mode.channels();
        if pixels.channels != channels || pixels.width == 0 || pixels.height == 0 {
            return Err(Error::invalid(format!(
                "the picture must have {channels} channels and at least one pixel, got {} × {} × {} (height × width × channels)",
                pixels.height, pixels.width, pixels.channels
            )));
        }
        self.made(Source::Pixels(pixels), key)
    }

    fn made(&self, source: Source<'_>, key: DrawKey) -> Result<Made> {
        let (mut bytes, mut shape) = (Vec::new(), [0; 3]);
        self.run(source, key, |size| {
            check_pixels(size[1], size[0])?;
            shape = self.shape(size);
            bytes.resize(shape.iter().product::<usize>() * self.dtype.width(), 0);
            Ok(&mut bytes)
        })?;
        Ok(Made { bytes, dtype: self.dtype, shape })
    }

    /// `place` gives the memory for what is made, once its (height, width) is known.
    fn run<'b>(
        &self,
        source: Source<'_>,
        key: DrawKey,
        place: impl FnOnce([usize; 2]) -> Result<&'b mut [u8]>,
    ) -> Result<()> {
        SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
            Ok(mut scratch) => self.run_with(&mut scratch, source, key, place),
            Err(_) => self.run_with(&mut Scratch::default(), source, key, place),
        })
    }

    fn run_with<'b>(
        &self,
        scratch: &mut Scratch,
        source: Source<'_>,
        key: DrawKey,
        place: impl FnOnce([usize; 2]) -> Result<&'b mut [u8]>,
    ) -> Result<()> {
        let (width, height) = source.size();
        let mut view = View::whole(width, height);
        // Whether the levels so far lie in `scratch.current`, and no longer in the source.
        let mut drawn = false;
        for (at, spec) in self.compose.transforms.iter().enumerate().take(self.pixels) {
            let mut draws = Draws::new(key, at);
            if is_geometry(spec) {
                if must_render(spec, &view) {
                    self.settle(scratch, source, &mut view, &mut drawn)?;
                }
                bend(spec, &mut view, &mut draws)?;
            } else if !is_skipped(spec, &mut draws) {
                self.settle(scratch, source, &mut view, &mut drawn)?;
                paint(spec, scratch, &mut draws)?;
            }
        }
        let (width, height) = view.size();
        let (channels, layout) = (self.compose.mode.channels(), self.compose.layout);
        let into = place([height, width])?;
        let output = Output { table: &self.table, layout, width, height, channels, flip_x: view.flip_x };
        let Scratch { renderer, current, .. } = scratch;
        let source = if drawn { Source::Pixels(current.view()) } else { source };
        renderer.render(source, &view, &self.decoding, &mut |y, row| output.row(y, row, into))?;
        for (at, erasing) in &self.erasings {
            let mut numbers = Erased { bytes: into, dtype: self.dtype, layout, width, height, channels };
            erasing.apply(&mut numbers, &mut Draws::new(key, *at));
        }
        Ok(())
    }

    /// Renders what the view shows, so that it is the whole of `scratch.current`.
    fn settle(&self, scratch: &mut Scratch, source: Source<'_>, view: &mut View, drawn: &mut bool) -> Result<()> {
        let Scratch { renderer, current, spare, .. } = scratch;
        let (width, height) = view.size();
        if *drawn && view.is_whole(current.width, current.height) {
            return Ok(());
        }
        let source = if *drawn { Source::Pixels(current.view()) } else { source };
        let (channels, flip_x) = (self.compose.mode.channels(), view.flip_x);
        let output = Output { table: &Table::Levels, layout: Layout::Pixels, width, height, channels, flip_x };
        check_pixels(width, height)?;
        fill_picture(spare, (width, height), channels, |_| Ok(()))?;
        renderer.render(source, view, &self.decoding, &mut |y, row| output.row(y, row, &mut spare.pixels))?;
        std::mem::swap(current, spare);
        *view = View::whole(width, height);
        *drawn = true;
        Ok(())
    }
}

fn is_geometry(spec: &Spec) -> bool {
    use Spec::*;
    matches!(
        spec,
        Resize(_)
            | CenterCrop(_)
            | RandomCrop(_)
            | RandomResizedCrop(_)
            | RandomHorizontalFlip(_)
            | RandomVerticalFlip(_)
            | Pad(_)
    )
}

/// Whether what the view shows has to be made before this can be added to it.
fn must_render(spec: &Spec, view: &View) -> bool {
    match spec {
        Spec::Resize(_) | Spec::RandomResizedCrop(_) => !view.takes_resize(),
        Spec::Pad(_) => !view.takes_padding(),
        Spec::RandomCrop(crop) => crop.needs_padding(view) && !view.takes_padding(),
        Spec::CenterCrop(crop) => crop.needs_padding(view) && !view.takes_padding(),
        _ => false,
    }
}

/// Adds geometry to the view.
fn bend(spec: &Spec, view: &mut View, draws: &mut Draws) -> Result<()> {
    match spec {
        Spec::Resize(resize) => resize.apply(view)?,
        Spec::CenterCrop(crop) => crop.apply(view),
        Spec::RandomCrop(crop) => crop.apply(view, draws)?,
        Spec::RandomResizedCrop(crop) => crop.apply(view, draws),
        Spec::RandomHorizontalFlip(flip) => view.flip_x ^= draws.chance(flip.p),
        Spec::RandomVerticalFlip(flip) => view.flip_y ^= draws.chance(flip.p),
        Spec::Pad(pad) => pad.apply(view),
        _ => {}
    }
    Ok(())
}

/// Whether nothing is done this time; draws what decides it.
fn is_skipped(spec: &Spec, draws: &mut Draws) -> bool {
    match spec {
        Spec::RandomGrayscale(it) => !draws.chance(it.p),
        // Its own first draw, which is made again where it is not.
        Spec::RandomErasing(it) => !draws.clone().chance(it.p),
        Spec::ToDtype(_) | Spec::Normalize(_) => true,
        _ => false,
    }
}

/// Changes levels in place.
fn paint(spec: &Spec, scratch: &mut Scratch, draws: &mut Draws) -> Result<()> {
    let Scratch { current, bytes, blur, .. } = scratch;
    match spec {
        Spec::ColorJitter(it) => it.apply(current, draws),
        Spec::RandomGrayscale(_) => enhance::greys(current),
        Spec::GaussianBlur(it) => it.apply(current, draws, blur)?,
        Spec::AutoAugment(it) => it.apply(current, draws, bytes),
        Spec::RandAugment(it) => it.apply(current, draws, bytes),
        Spec::TrivialAugmentWide(it) => it.apply(current, draws, bytes),
        Spec::RandomErasing(it) => {
            let (width, height, channels) = (current.width, current.height, current.channels);
            let bytes = &mut current.pixels;
            it.apply(&mut Erased { bytes, dtype: DType::U8, layout: Layout::Pixels, width, height, channels }, draws);
        }
        _ => {}
    }
    Ok(())
}
