//! What the fuzz targets reach besides the public interface.

use proactions_forward::Body;

use crate::multipart::{FormError, Multipart};

/// The parts of a form, each with its name, its media type and its data of at most `limit` bytes.
///
/// # Errors
/// What is wrong with the form.
pub async fn read_form(
    content_type: &str,
    body: Body,
    limit: usize,
) -> Result<Vec<(String, Option<String>, Vec<u8>)>, String> {
    let told = |error: FormError| format!("{error:?}");
    let mut form = Multipart::new(content_type, body).map_err(told)?;
    let mut parts = Vec::new();
    while let Some(part) = form.next_part().await.map_err(told)? {
        let data = form.collect_data(limit, "too large").await.map_err(told)?;
        parts.push((part.name, part.media_type, data.to_vec()));
    }
    Ok(parts)
}
