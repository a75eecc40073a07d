//! A turn of the hues, in Pillow's HSV of 8 bits.

use crate::picture::Picture;

/// By `turns` of the circle, in -0.5..=0.5. Greys stay what they are.
pub(crate) fn turn(picture: &mut Picture, turns: f64) {
    if picture.channels != 3 {
        return;
    }
    // torchvision adds it to levels that wrap.
    let shift = (turns * 255.0) as i32 as u8;
    let sectors: [Sector; 256] = std::array::from_fn(|hue| Sector::of((hue as u8).wrapping_add(shift)));
    for pixel in picture.pixels.as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = to_rgb(&sectors[usize::from(hue)], saturation, value);
    }
}

fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let part = |level: u8| f32::from(most - level) / range;
    // Sums with a whole number are made in doubles, and kept in floats.
    let hue = if red == most {
        part(blue) - part(green)
    } else if green == most {
        (2.0 + f64::from(part(red)) - f64::from(part(blue))) as f32
    } else {
        (4.0 + f64::from(part(green)) - f64::from(part(red))) as f32
    };
    // The remainder of a division by 1, which is exact.
    let turns = f64::from(hue) / 6.0 + 1.0;
    let hue = if turns < 1.0 { turns as f32 } else { (turns - 1.0) as f32 };
    let saturation = range / f32::from(most);
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// Where a hue lies among the six: its sector, and how far into it.
#[derive(Debug, Clone, Copy)]
struct Sector {
    number: u8,
    rest: f64,
}

impl Sector {
    fn of(hue: u8) -> Self {
        let place = f64::from(hue) * 6.0 / 255.0;
        let whole = place.floor();
        Self { number: whole as u8 % 6, rest: f64::from((place - whole) as f32) }
    }
}

fn to_rgb(sector: &Sector, saturation: u8, value: u8) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let saturation = f64::from((f64::from(saturation) / 255.0) as f32);
    // Shares have 24 bits, so that none is the one number below a half that this would round up.
    let level = |share: f64| (f64::from(value) * share + 0.5) as u8;
    let low = level(1.0 - saturation);
    // Products of two floats are floats.
    let falling = level(1.0 - f64::from((saturation * sector.rest) as f32));
    let rising = level(1.0 - saturation * (1.0 - sector.rest));
    match sector.number {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}
