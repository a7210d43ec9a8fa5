//! A way to a registry that leads through a proxy.

use reuseport::image::registry::{Options, Proxies};

use crate::image::{client, says};
use crate::server::{Reply, Server};

fn proxies(server: &Server, user: &'static str) -> Proxies {
    let host = server.host();
    Proxies::new(move |name| (name == "HTTPS_PROXY").then(|| format!("http://{user}{host}")))
}

#[test]
fn a_registry_is_asked_for_through_the_proxy() {
    let proxy = Server::start(|_| Reply::new(403));
    let client = client(Options {
        proxies: proxies(&proxy, "u:s3cret@"),
        ..Options::default()
    });
    let app = client
        .repository("registry.invalid", "app")
        .expect("a repository");
    let message = says(
        app.manifest("v1"),
        &["registry.invalid/app:v1", "the proxy"],
    );
    assert!(!message.contains("s3cret") && !format!("{client:?}").contains("s3cret"));
    assert_eq!(proxy.lines(), ["CONNECT registry.invalid:443"]);
    let login = proxy.asked()[0]
        .header("proxy-authorization")
        .map(str::to_owned);
    assert_eq!(login.as_deref(), Some("Basic dTpzM2NyZXQ="));

    // This machine is not behind it.
    let here = Server::start(|_| Reply::new(404));
    let app = client
        .repository(&here.host(), "app")
        .expect("a repository");
    says(app.manifest("v1"), &["no such repository"]);
    assert_eq!(proxy.asked().len(), 1);
}
