//! The table for people.

use crate::row::Row;

/// One line for each row, columns aligned.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>6}\n",
        "", "p50 ms", "p99 ms", "deliveries/s", "bytes", "MB/node", "idle B/s", "CPU us", "lost"
    );
    for row in rows {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        text += &format!(
            "{:<22} {:>8} {:>8} {:>12} {:>7} {:>8} {:>9} {:>8} {:>6}\n",
            row.name,
            number(row.p50_ms, 2),
            number(row.p99_ms, 2),
            number(row.deliveries_per_s, 0),
            number(row.bytes_vs_minimum, 2),
            number(row.memory_mb, 2),
            number(row.idle_bytes_per_s, 0),
            number(row.cpu_us_per_delivery, 2),
            row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string()),
        );
    }
    text
}
