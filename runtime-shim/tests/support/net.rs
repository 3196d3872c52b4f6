//! The guest that carries out scripts, with what its manifest allows it.

use super::{App, agent, wasm};

/// An application of that guest alone; `allowed_hosts` is the inside of a TOML
/// array.
pub fn start(allowed_hosts: &str) -> App {
    start_with(allowed_hosts, &[], &[])
}

/// The same with further flags and environment variables.
pub fn start_with(allowed_hosts: &str, args: &[&str], env: &[(&str, &str)]) -> App {
    let net = wasm("guest_net");
    let manifest = format!(
        r#"
        spin_manifest_version = 2
        [application]
        name = "net"
        [[trigger.http]]
        route = "/..."
        component = "net"
        [component.net]
        source = {net}
        allowed_outbound_hosts = [{allowed_hosts}]
        "#
    );
    App::start_with(&manifest, args, env)
}

/// Has one sandbox carry out all the steps; what each gave.
pub fn run(app: &App, steps: &[&str]) -> Vec<String> {
    let response = agent().post(app.url("/")).send(steps.join("\n")).unwrap();
    let text = response.into_body().read_to_string().unwrap();
    text.lines().map(str::to_owned).collect()
}
