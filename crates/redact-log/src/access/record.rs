use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use proactions_edge::{ClientInfo, Exchange, Peer, Rejection, RequestId};

use crate::line::{Event, Scratch, Value, push_decimal};
use crate::policy::Category;
use crate::{Level, Logging};

/// What is known of an exchange. The parts are handles to the request's own memory; the line is made at the end.
#[derive(Debug)]
pub(super) struct Record {
    logging: Logging,
    begun_at: SystemTime,
    exchange: Exchange,
    method: Method,
    uri: Uri,
    ip: Option<IpAddr>,
    user_agent: Option<HeaderValue>,
    request_id: Option<RequestId>,
    status: u16,
    reason: Option<&'static str>,
    pub(super) bytes: u64,
}

/// The status of an exchange whose client left before there was an answer, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// How much is written of a request target and of a user agent, in bytes.
const MAX_URL: usize = 8 * 1024;
const MAX_USER_AGENT: usize = 512;

/// Methods beyond the standard ones may be long.
const MAX_METHOD: usize = 32;

impl Record {
    /// Takes down the request and leaves an [`Exchange`] in its extensions.
    pub(super) fn begin<B>(logging: Logging, request: &mut Request<B>) -> Self {
        let exchange = Exchange::new();
        request.extensions_mut().insert(exchange.clone());
        let facts = request.extensions();
        let ip = facts.get::<ClientInfo>().map(|client| client.ip);
        Self {
            begun_at: logging.clock().now(),
            logging,
            exchange,
            method: request.method().clone(),
            uri: request.uri().clone(),
            ip: ip.or_else(|| {
                facts
                    .get::<Peer>()
                    .map(|peer| peer.addr.ip().to_canonical())
            }),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            request_id: facts.get::<RequestId>().cloned(),
            status: CLIENT_CLOSED_REQUEST,
            reason: None,
            bytes: 0,
        }
    }

    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn answered<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
        self.reason = response
            .extensions()
            .get::<Rejection>()
            .map(|rejection| rejection.kind().as_str());
    }

    /// The inner service gave an error in place of an answer.
    pub(super) fn failed(&mut self) {
        self.status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        self.reason = Some("service_error");
    }

    pub(super) fn write(&self, aborted: bool) {
        let now = self.logging.clock().now();
        let took = now.duration_since(self.begun_at).unwrap_or(Duration::ZERO);
        Scratch::with(|scratch| {
            let redactor = self.logging.policy().redactor();
            let target = self
                .uri
                .path_and_query()
                .map_or("/", |target| target.as_str());
            let url = redactor.redact(target, true, MAX_URL);
            let path = url.split('?').next().unwrap_or_default();
            let method = self.method.as_str();
            let method = method.get(..MAX_METHOD).unwrap_or(method);

            let mut text = std::mem::take(&mut scratch.text);
            for part in [method, " ", path, " "] {
                text.push_str(part);
            }
            push_decimal(&mut text, self.status.into());
            let message_end = text.len();
            match self.ip {
                Some(IpAddr::V4(ip)) => {
                    for (index, octet) in ip.octets().into_iter().enumerate() {
                        if index > 0 {
                            text.push('.');
                        }
                        push_decimal(&mut text, octet.into());
                    }
                }
                // Writing to a String cannot fail.
                Some(IpAddr::V6(ip)) => {
                    let _ = write!(text, "{ip}");
                }
                None => {}
            }
            let (message, ip) = text.split_at(message_end);
            let user_agent = self.user_agent.as_ref().map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                // A short one is filtered when it is written.
                if text.len() > MAX_USER_AGENT {
                    let cut = redactor.redact(&text, false, MAX_USER_AGENT);
                    Cow::Owned(cut.into_owned())
                } else {
                    text
                }
            });
            let event = Event {
                at: now,
                level: Level::Info,
                module: Category::Access.as_str(),
                message: Value::Safe(message),
                fields: &|put| {
                    put("method", Value::Safe(method));
                    put("url", Value::Safe(&url));
                    put("statusCode", Value::Count(self.status.into()));
                    put("responseTime", Value::Millis(took));
                    if self.ip.is_some() {
                        put("ip", Value::Safe(ip));
                    }
                    if let Some(user_agent) = &user_agent {
                        put("userAgent", Value::Text(user_agent));
                    }
                    if let Some(id) = &self.request_id {
                        put("requestId", Value::Safe(id.as_str()));
                    }
                    if let Some(principal) = self.exchange.principal() {
                        put("username", Value::Text(&principal.id));
                    }
                    if let Some(reason) = self.reason {
                        put("reason", Value::Safe(reason));
                    }
                    put("bytesSent", Value::Count(self.bytes));
                    if aborted {
                        put("aborted", Value::Bool(true));
                    }
                },
            };
            self.logging.write(Category::Access, scratch, &event);
            scratch.text = text;
        });
    }
}
