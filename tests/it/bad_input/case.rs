//! One request of one's own making, and how they are collected.

/// A request of one's own making, and what has to come of it.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) admin: bool,
    pub(super) request: Vec<u8>,
    pub(super) status: u16,
    pub(super) code: &'static str,
}

/// A request's bytes; a `Host` is added unless the headers have one.
pub(super) fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(found, _)| found.eq_ignore_ascii_case(name));
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !has("host") {
        text.push_str("Host: localhost\r\n");
    }
    if !has("transfer-encoding") && !has("content-length") && !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Collects cases for one caller.
pub(super) struct Cases {
    authorization: String,
    admin: bool,
    pub(super) all: Vec<Case>,
}

impl Cases {
    pub(super) fn of(key: &str, admin: bool) -> Self {
        Self {
            authorization: format!("Bearer {key}"),
            admin,
            all: Vec::new(),
        }
    }

    pub(super) fn raw(&mut self, name: &str, request: Vec<u8>, status: u16, code: &'static str) {
        self.all.push(Case {
            name: name.to_owned(),
            admin: self.admin,
            request,
            status,
            code,
        });
    }

    /// With the caller's credential and these headers.
    pub(super) fn with(
        &mut self,
        name: &str,
        line: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        status: u16,
        code: &'static str,
    ) {
        let authorization = self.authorization.clone();
        let mut all = vec![("Authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.raw(name, request(line, &all, body), status, code);
    }

    pub(super) fn json(&mut self, line: &str, body: &str, status: u16, code: &'static str) {
        let short: String = body.chars().take(200).collect();
        let headers = [("Content-Type", "application/json")];
        self.with(
            &format!("{line} {short}"),
            line,
            &headers,
            body.as_bytes(),
            status,
            code,
        );
    }

    pub(super) fn bare(&mut self, line: &str, status: u16, code: &'static str) {
        self.with(line, line, &[], b"", status, code);
    }
}
