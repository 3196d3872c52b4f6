//! The export that HTTP requests call. It connects the logic to the host, and
//! decides nothing.
#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively, the logic is only tested")
)]

mod greeting;

#[cfg(target_family = "wasm")]
mod component {
    use spin_sdk::http::{Request, Response};
    use spin_sdk::http_component;

    #[http_component]
    fn handle(request: Request) -> Response {
        let answer = crate::greeting::answer(&request.method().to_string(), request.path());
        Response::builder()
            .status(answer.status)
            .header("content-type", "text/plain; charset=utf-8")
            .body(answer.body)
            .build()
    }
}
