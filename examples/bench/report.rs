//! The rows as a table or as JSON.
#![allow(clippy::print_stdout, reason = "examples talk to people")]

use serde_json::{Value, json};

use super::measure::Row;

pub fn json(rows: &[Row]) -> Value {
    let object = |row: &Row| {
        json!({
            "test": row.test, "batch": row.batch, "depth": row.depth, "threads": row.threads,
            "tok_s": row.tok_s, "tok_s_spread": row.tok_s_spread,
            "gb_s": row.gb_s, "bandwidth_pct": row.bandwidth_pct,
            "gmac_s": row.gmac_s, "peak_pct": row.peak_pct,
        })
    };
    rows.iter().map(object).collect()
}

pub fn table(rows: &[Row], isa: &str) {
    println!(
        "| test | batch | depth | threads | tok/s ({isa}) | GB/s | of read | GMAC/s | of peak |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let Row { test, batch, depth, threads, tok_s, gb_s, gmac_s, .. } = row;
        let spread = row.tok_s_spread / 2.0;
        println!(
            "| {test} | {batch} | {depth} | {threads} | {tok_s:.2} ± {spread:.2} | {gb_s:.1} | \
             {:.0} % | {gmac_s:.1} | {:.0} % |",
            row.bandwidth_pct, row.peak_pct
        );
    }
}
