//! From the number of a format to its type.

/// Evaluates `$body` with `$F` naming the [`BlockFormat`] type of `$format`, or
/// `$float` if it is multiplied as floats. The only places that map one to the other are
/// this macro and the two that follow.
macro_rules! with_block_format {
    ($format:expr, $F:ident => $body:expr, else => $float:expr) => {
        $crate::quant::with_rewritten_format!(
            $format,
            $F => $body,
            else => $crate::quant::with_kernel_format!($format, $F => $body, else => $float)
        )
    };
}
pub(crate) use with_block_format;

/// As [`with_block_format`], with `$F` naming what kernels read: [`Wide`] for the formats that
/// are rewritten.
macro_rules! with_kernel_format {
    ($format:expr, $F:ident => $body:expr, else => $float:expr) => {{
        macro_rules! with {
            ($name:ident) => {{
                type $F = $crate::quant::$name;
                $body
            }};
        }
        match $format {
            $crate::quant::Format::Q4_0 => with!(Q4_0),
            $crate::quant::Format::Q4_1 => with!(Q4_1),
            $crate::quant::Format::Q5_0 => with!(Q5_0),
            $crate::quant::Format::Q5_1 => with!(Q5_1),
            $crate::quant::Format::Q8_0 => with!(Q8_0),
            $crate::quant::Format::Q2_K => with!(Q2_K),
            $crate::quant::Format::Q3_K => with!(Q3_K),
            $crate::quant::Format::Q4_K => with!(Q4_K),
            $crate::quant::Format::Q5_K => with!(Q5_K),
            $crate::quant::Format::Q6_K => with!(Q6_K),
            $crate::quant::Format::IQ4_NL => with!(IQ4_NL),
            $crate::quant::Format::IQ4_XS => with!(IQ4_XS),
            $crate::quant::Format::MXFP4 => with!(MXFP4),
            format if format.is_rewritten() => with!(Wide),
            _ => $float,
        }
    }};
}
pub(crate) use with_kernel_format;

/// Evaluates `$body` with `$F` naming the type of a format that is rewritten, else `$other`.
macro_rules! with_rewritten_format {
    ($format:expr, $F:ident => $body:expr, else => $other:expr) => {{
        macro_rules! with {
            ($name:ident) => {{
                type $F = $crate::quant::$name;
                $body
            }};
        }
        match $format {
            $crate::quant::Format::IQ1_S => with!(IQ1_S),
            $crate::quant::Format::IQ1_M => with!(IQ1_M),
            $crate::quant::Format::IQ2_XXS => with!(IQ2_XXS),
            $crate::quant::Format::IQ2_XS => with!(IQ2_XS),
            $crate::quant::Format::IQ2_S => with!(IQ2_S),
            $crate::quant::Format::IQ3_XXS => with!(IQ3_XXS),
            $crate::quant::Format::IQ3_S => with!(IQ3_S),
            $crate::quant::Format::TQ1_0 => with!(TQ1_0),
            $crate::quant::Format::TQ2_0 => with!(TQ2_0),
            _ => $other,
        }
    }};
}
pub(crate) use with_rewritten_format;
