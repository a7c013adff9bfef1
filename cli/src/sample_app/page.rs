//! The page at `/`: one file, no other asset, so that it works wherever the instance does.

use axum::response::Html;

/// The page that shows live which instance answers.
pub(super) async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
