//! From the samples of a row to its colours, as libjpeg-turbo and, for what it leaves, Pillow compute them.

/// YCbCr to RGB, with factors of 16 binary places and one rounding for each channel.
#[inline(always)]
pub(super) fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    for (((pixel, &y), &cb), &cr) in out.as_chunks_mut::<3>().0.iter_mut().zip(y).zip(cb).zip(cr) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let red = y + ((91_881 * cr + 32_768) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
        let blue = y + ((116_130 * cb + 32_768) >> 16);
        *pixel = [red, green, blue].map(|value| value.clamp(0, 255) as u8);
    }
}

#[inline(always)]
pub(super) fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((pixel, &red), &green), &blue) in out.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [red, green, blue];
    }
}

/// From inverted CMYK, as Pillow converts it: `pixels` holds the first three channels as the file gives them.
pub(super) fn blacken(pixels: &mut [u8], black: &[u8]) {
    for (pixel, &black) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(black) {
        *pixel = pixel.map(|value| {
            let product = (255 - u32::from(value)) * u32::from(black) + 128;
            let share = ((product >> 8) + product) >> 8;
            (u32::from(black) - share.min(u32::from(black))) as u8
        });
    }
}

/// Grey to as many channels; a fourth is opaque.
pub(crate) fn repeat<const N: usize>(grey: &[u8], out: &mut [u8]) {
    for (pixel, &grey) in out.as_chunks_mut::<N>().0.iter_mut().zip(grey) {
        *pixel = [grey; N];
        if N == 4 {
            pixel[N - 1] = 255;
        }
    }
}

/// Pillow's weights of the channels (ITU-R 601), with 16 binary places.
pub(crate) fn rgb_to_grey(rgb: &[u8], out: &mut [u8]) {
    for (grey, pixel) in out.iter_mut().zip(rgb.as_chunks::<3>().0) {
        let [red, green, blue] = pixel.map(u32::from);
        *grey = ((19_595 * red + 38_470 * green + 7_471 * blue + 32_768) >> 16) as u8;
    }
}

pub(crate) fn rgb_to_rgba(rgb: &[u8], out: &mut [u8]) {
    for (pixel, &[red, green, blue]) in out.as_chunks_mut::<4>().0.iter_mut().zip(rgb.as_chunks::<3>().0) {
        *pixel = [red, green, blue, 255];
    }
}
