//! What a page from outside must hold: the numbers that attention promises to
//! handle, and nothing else.

use super::page::{Codes, Head, HeadMut, HeadShape, MIN_SCALE, PAGE, Ratios, Scales};
use super::{max_code, place_of_key, place_of_value};

/// Checks one KV head's part of a page whose first `slots` positions are held: as
/// [`Head::new`] takes it. `Err` says what is wrong.
///
/// Codes stay within their bound and are 0 beyond the head's dimensions, scales of
/// held positions are finite and not below [`MIN_SCALE`], those of others 0.
pub(crate) fn check_part(shape: HeadShape, bytes: &[u8], slots: usize) -> Result<(), &'static str> {
    let most = max_code(shape.head_dim);
    match Head::new(shape, bytes) {
        Head::I16(codes) => {
            let fits = |lines: &[[i16; 32]]| {
                let size = |most: u16, code: &i16| most.max(code.unsigned_abs());
                lines.as_flattened().iter().fold(0, size) <= most.unsigned_abs()
            };
            check_codes(shape, codes, fits)?;
            check_scales(codes.scales, slots)
        }
        Head::Q8_0 { codes, key_ratios, value_ratios } => {
            let fits = |lines: &[[i8; 32]]| {
                let size = |most: u8, code: &i8| most.max(code.unsigned_abs());
                lines.as_flattened().iter().fold(0, size) <= 127
            };
            check_codes(shape, codes, fits)?;
            let allowed = |ratios: &[Ratios]| {
                ratios.as_flattened().iter().all(|ratio| (0..=most).contains(ratio))
            };
            if !(allowed(key_ratios) && allowed(value_ratios)) {
                return Err("a ratio out of bounds");
            }
            check_scales(codes.scales, slots)
        }
        Head::F32 { keys, values } => {
            let finite = |numbers: &[f32]| numbers.iter().all(|x| x.is_finite());
            if finite(keys) && finite(values) { Ok(()) } else { Err("a number that is not finite") }
        }
    }
}

fn check_codes<T: Copy + Default + PartialEq>(
    shape: HeadShape,
    codes: Codes<'_, [T; 32]>,
    fits: impl Fn(&[[T; 32]]) -> bool,
) -> Result<(), &'static str> {
    if !(fits(codes.keys) && fits(codes.values)) {
        return Err("a code out of bounds");
    }
    let width = shape.width();
    for dimension in shape.head_dim..16 * width {
        for slot in 0..PAGE {
            let (line, at) = place_of_key(slot, dimension);
            let key = codes.keys[line][at];
            let (line, at) = place_of_value(width, slot, dimension);
            if key != T::default() || codes.values[line][at] != T::default() {
                return Err("a code beyond the dimensions of a head");
            }
        }
    }
    Ok(())
}

fn check_scales(scales: &Scales, slots: usize) -> Result<(), &'static str> {
    for scales in scales {
        let (held, others) = scales.split_at(slots.min(PAGE));
        let good = held.iter().all(|&scale| scale >= MIN_SCALE && scale.is_finite());
        if !good || others.iter().any(|&scale| scale != 0.0) {
            return Err("a scale out of bounds");
        }
    }
    Ok(())
}

/// Zeros the positions from slot `from` on: what was forgotten, or of a pass that
/// was cancelled, is nobody's business.
pub(crate) fn clear_slots(shape: HeadShape, bytes: &mut [u8], from: usize) {
    let width = shape.width();
    match HeadMut::new(shape, bytes) {
        HeadMut::I16 { keys, values, scales } => {
            clear_codes(width, keys, values, from);
            scales.iter_mut().for_each(|scales| scales[from..].fill(0.0));
        }
        HeadMut::Q8_0 { keys, values, key_ratios, value_ratios, scales } => {
            clear_codes(width, keys, values, from);
            let ratios = key_ratios.iter_mut().chain(value_ratios);
            ratios.for_each(|ratios| ratios[from..].fill(0));
            scales.iter_mut().for_each(|scales| scales[from..].fill(0.0));
        }
        HeadMut::F32 { keys, values } => {
            keys[from * shape.head_dim..].fill(0.0);
            values[from * shape.head_dim..].fill(0.0);
        }
    }
}

fn clear_codes<T: Default>(
    width: usize,
    keys: &mut [[T; 32]],
    values: &mut [[T; 32]],
    from: usize,
) {
    for slot in from..PAGE {
        for dimension in 0..16 * width {
            let (line, at) = place_of_key(slot, dimension);
            keys[line][at] = T::default();
            let (line, at) = place_of_value(width, slot, dimension);
            values[line][at] = T::default();
        }
    }
}
