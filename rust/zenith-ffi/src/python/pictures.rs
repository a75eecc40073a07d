//! Pictures decoded at once, for users who want to look at one and for tests.

use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use serde_json::{Map, Value};
use zenith::data::{Error, Result};
use zenith::image::decode::{Limits, Mode, Request, decode, probe};
use zenith::image::{Picture, Rect};

use super::errors::call;

/// Height, width, channels and the pixels (rows of pixels of channels). The options are a JSON object: `mode` ("RGB", "L" or
/// "RGBA"), `turn` (by EXIF), `reduce` (1, 2, 4 or 8), `coarse` (colour as in `decode="fast"`) and `region` ([x, y, width, height]), none
/// of which has to be there.
#[pyfunction]
pub(super) fn decode_image<'py>(
    py: Python<'py>,
    data: &[u8],
    options: &str,
) -> PyResult<(usize, usize, usize, Bound<'py, PyByteArray>)> {
    let picture = call(py, "decode_image", || {
        let (request, limits) = (request(data, options)?, Limits::default());
        let mut picture = Picture::default();
        decode(data, &request, &limits, &mut picture)?;
        Ok(picture)
    })?;
    let pixels = PyByteArray::new(py, &picture.pixels);
    Ok((picture.height, picture.width, picture.channels, pixels))
}

fn request(data: &[u8], options: &str) -> Result<Request> {
    let wrong = |what: &str| Error::invalid(format!("decode_image: {what}; the options were {options}"));
    let options: Map<String, Value> =
        serde_json::from_str(options).map_err(|_| wrong("the options are not a JSON object"))?;
    let known = ["mode", "turn", "reduce", "coarse", "region"];
    if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(wrong(&format!("there is no option {name:?}")));
    }
    let mode = match options.get("mode").map(Value::as_str) {
        None | Some(Some("RGB")) => Mode::Rgb,
        Some(Some("L")) => Mode::Grey,
        Some(Some("RGBA")) => Mode::Rgba,
        _ => return Err(wrong("mode must be \"RGB\", \"L\" or \"RGBA\"")),
    };
    let flag = |name: &str| {
        let value = options.get(name).map_or(Some(false), Value::as_bool);
        value.ok_or_else(|| wrong(&format!("{name} must be a boolean")))
    };
    let (turn, coarse) = (flag("turn")?, flag("coarse")?);
    let reduce = options.get("reduce").map_or(Some(1), Value::as_u64);
    let reduce = reduce.filter(|reduce| matches!(reduce, 1 | 2 | 4 | 8));
    let reduce = reduce.ok_or_else(|| wrong("reduce must be 1, 2, 4 or 8"))? as usize;
    let region = match options.get("region") {
        None | Some(Value::Null) => {
            let info = probe(data, turn, &Limits::default())?;
            Rect::whole(info.width.div_ceil(reduce), info.height.div_ceil(reduce))
        }
        Some(region) => serde_json::from_value::<[usize; 4]>(region.clone())
            .map(|[x, y, width, height]| Rect { x, y, width, height })
            .map_err(|_| wrong("region must be [x, y, width, height]"))?,
    };
    Ok(Request { mode, turn, reduce, coarse, region })
}
