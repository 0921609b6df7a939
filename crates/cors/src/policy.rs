use std::collections::HashMap;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use proactions_edge::ConfigError;

use crate::config::{CommaList, CorsConfig, CorsOrigin};
use crate::origin::{Origin, is_name};

/// For how many seconds a browser keeps a preflight's answer at most.
pub(crate) const MAX_AGE: u64 = 86_400;
const DEFAULT_METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE";

/// Who may call from a browser, and what browsers are told: ready to run, cheap to clone.
///
/// It is made of a [`CorsConfig`] and cannot contradict itself; the default is [`Self::off`]. See the [crate documentation](crate).
#[derive(Clone, Debug, Default)]
pub struct CorsPolicy {
    rules: Option<Arc<Rules>>,
}

impl CorsPolicy {
    /// A policy that does nothing, so that the layer can always be in the stack.
    #[must_use]
    pub const fn off() -> Self {
        Self { rules: None }
    }

    /// Whether the policy does anything.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.rules.is_some()
    }

    /// How the policy takes the value of one `Origin` field. A pure function.
    #[must_use]
    pub fn match_origin(&self, origin: &HeaderValue) -> OriginMatch {
        self.rules
            .as_ref()
            .map_or(OriginMatch::Refused, |rules| rules.origins.matches(origin))
    }

    pub(crate) const fn rules(&self) -> Option<&Arc<Rules>> {
        self.rules.as_ref()
    }
}

/// How a policy takes an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginMatch {
    /// Allowed because every origin is.
    Anybody,
    /// Listed, by name or by a wildcard.
    Named,
    /// The origin `null`, and it is listed.
    Null,
    /// Not allowed.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) origins: Origins,
    pub(crate) credentials: bool,
    /// What every allowed preflight is told besides the origin.
    pub(crate) preflight: Box<[(HeaderName, HeaderValue)]>,
    /// What every other allowed request is told besides the origin.
    pub(crate) actual: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) reflect_headers: bool,
    pub(crate) status: StatusCode,
    pub(crate) preflight_continue: bool,
}

#[derive(Debug)]
pub(crate) enum Origins {
    /// `'*'`: the answer is the same for everybody.
    Any,
    /// `true`: whoever asks is named.
    Reflect,
    Listed(Listed),
}

impl Origins {
    pub(crate) fn matches(&self, origin: &HeaderValue) -> OriginMatch {
        match self {
            Self::Any => OriginMatch::Anybody,
            Self::Reflect => match read(origin) {
                Some(_) => OriginMatch::Anybody,
                None => OriginMatch::Refused,
            },
            Self::Listed(listed) => listed.matches(origin),
        }
    }
}

/// Reads the value of an `Origin` field; `null` is not read.
pub(crate) fn read(origin: &HeaderValue) -> Option<Origin<'_>> {
    origin.to_str().ok().and_then(Origin::parse)
}

#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Every entry but wildcards as browsers spell it, sorted. An `Origin` that is one of these needs no reading,
    /// which takes seven times as long.
    spelled: Vec<Box<str>>,
    /// By host in lower case.
    exact: HashMap<Box<str>, Vec<Site>>,
    wildcards: Vec<Wildcard>,
    null: bool,
}

impl Listed {
    fn matches(&self, origin: &HeaderValue) -> OriginMatch {
        let sent = origin.as_bytes();
        if self
            .spelled
            .binary_search_by(|known| known.as_bytes().cmp(sent))
            .is_ok()
        {
            return OriginMatch::Named;
        }
        let Some(origin) = read(origin) else {
            return if self.null && origin.as_bytes() == b"null" {
                OriginMatch::Null
            } else {
                OriginMatch::Refused
            };
        };
        let named = self
            .exact
            .get(&*origin.host)
            .is_some_and(|sites| sites.iter().any(|site| site.is_of(&origin)))
            || self
                .wildcards
                .iter()
                .any(|wildcard| wildcard.covers(&origin));
        if named {
            OriginMatch::Named
        } else {
            OriginMatch::Refused
        }
    }

    fn add(&mut self, entry: &str) -> Result<(), String> {
        if entry == "null" {
            self.null = true;
            return Ok(());
        }
        if let Some(origin) = Origin::parse(entry) {
            let spelled = origin.to_string().into_boxed_str();
            if let Err(at) = self.spelled.binary_search(&spelled) {
                self.spelled.insert(at, spelled);
            }
            let site = Site::of(&origin);
            let host = origin.host.into_owned().into_boxed_str();
            self.exact.entry(host).or_default().push(site);
            return Ok(());
        }
        self.wildcards.push(Wildcard::parse(entry)?);
        Ok(())
    }
}

/// The parts of an origin besides its host.
#[derive(Debug)]
struct Site {
    scheme: Box<str>,
    port: Option<u16>,
}

impl Site {
    fn of(origin: &Origin<'_>) -> Self {
        Self {
            scheme: origin.scheme.into(),
            port: origin.port,
        }
    }

    fn is_of(&self, origin: &Origin<'_>) -> bool {
        self.port == origin.port && self.scheme.eq_ignore_ascii_case(origin.scheme)
    }
}

#[derive(Debug)]
struct Wildcard {
    site: Site,
    /// The fixed labels.
    base: Box<str>,
}

impl Wildcard {
    fn parse(entry: &str) -> Result<Self, String> {
        let fixed = entry.split_once("://*.").and_then(|(scheme, rest)| {
            // The base in place of the wildcard is an origin of its own, and is read by the same rules.
            let text = format!("{scheme}://{rest}");
            Origin::parse(&text).map(|origin| (Site::of(&origin), origin.host.into_owned()))
        });
        let Some((site, base)) = fixed else {
            return Err(no_origin(entry));
        };
        let last = base.rsplit('.').next().unwrap_or_default();
        if !is_name(&base) || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!(
                "`{entry}`: a wildcard stands before a name, not before an address"
            ));
        }
        if last == base && base != "localhost" {
            return Err(format!(
                "`{entry}` would allow every name under a top-level domain; write at least two labels after \
                 the wildcard, as in https://*.example.com"
            ));
        }
        Ok(Self {
            site,
            base: base.into(),
        })
    }

    fn covers(&self, origin: &Origin<'_>) -> bool {
        self.site.is_of(origin)
            && origin
                .host
                .strip_suffix(&*self.base)
                .and_then(|labels| labels.strip_suffix('.'))
                .is_some_and(|labels| !labels.is_empty())
    }
}

fn no_origin(entry: &str) -> String {
    if entry.is_empty() {
        return "an empty text is no origin; leave it out, or write `enabled: false` to switch CORS off"
            .to_owned();
    }
    if entry == "*" {
        return "`*` cannot stand in a list; write `origin: '*'`, or list the origins".to_owned();
    }
    if entry.contains(',') {
        return format!("`{entry}` holds several origins; write a list with one origin an item");
    }
    if let Some(short) = entry.strip_suffix('/')
        && Origin::parse(short).is_some()
    {
        return format!("`{entry}` has a path, which an origin has not; write `{short}`");
    }
    if !entry.is_ascii() {
        return format!(
            "`{entry}` is not ASCII; write the host in punycode (xn--…), as browsers send it"
        );
    }
    if entry.contains('*') {
        return format!(
            "`{entry}`: a wildcard stands for whole labels at the beginning of the host, as in \
             https://*.example.com"
        );
    }
    format!(
        "`{entry}` is no origin: write scheme, host and, if it is not the usual one, port, as in \
         https://app.example.com or http://localhost:3000, without path and user information"
    )
}

impl TryFrom<CorsConfig> for CorsPolicy {
    type Error = ConfigError;

    fn try_from(config: CorsConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let origins = origins(config.origin.as_ref(), &mut found);
        // What is switched off may still be a draft, but each of its values has to be one.
        if config.enabled && config.credentials {
            check_credentials(&config, &origins, &mut found);
        }

        let methods = match &config.methods {
            None => Some(HeaderValue::from_static(DEFAULT_METHODS)),
            Some(list) => join("methods", list, is_method, &mut found),
        };
        if config
            .methods
            .as_ref()
            .is_some_and(|list| list.items().is_empty())
        {
            found.push(ConfigError::new(
                "methods",
                format!("an empty list allows no method; leave the key out for {DEFAULT_METHODS}"),
            ));
        }
        let allowed_headers = config.allowed_headers.as_ref().and_then(|list| {
            if is_empty_text(list) {
                found.push(ConfigError::new(
                    "allowedHeaders",
                    "an empty text is no list; leave the key out to allow what is asked for, or write [] to \
                     allow nothing",
                ));
                return None;
            }
            join("allowedHeaders", list, is_field_name, &mut found)
        });
        let exposed_headers = config
            .exposed_headers
            .as_ref()
            .filter(|list| !is_empty_text(list))
            .and_then(|list| join("exposedHeaders", list, is_field_name, &mut found));
        let status = status(config.options_success_status, &mut found);

        let credentials = config.credentials.then(|| {
            (
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            )
        });
        let exposed = exposed_headers.map(|value| (ACCESS_CONTROL_EXPOSE_HEADERS, value));
        let max_age = config
            .max_age
            .map(|seconds| (ACCESS_CONTROL_MAX_AGE, seconds.min(MAX_AGE).into()));
        let preflight = [
            credentials.clone(),
            methods.map(|value| (ACCESS_CONTROL_ALLOW_METHODS, value)),
            allowed_headers.map(|value| (ACCESS_CONTROL_ALLOW_HEADERS, value)),
            max_age,
            exposed.clone(),
        ];
        let rules = config.enabled.then(|| {
            Arc::new(Rules {
                origins,
                credentials: config.credentials,
                preflight: preflight.into_iter().flatten().collect(),
                actual: [credentials, exposed].into_iter().flatten().collect(),
                reflect_headers: config.allowed_headers.is_none(),
                status,
                preflight_continue: config.preflight_continue,
            })
        });
        ConfigError::check(Self { rules }, found)
    }
}

fn origins(config: Option<&CorsOrigin>, found: &mut Vec<ConfigError>) -> Origins {
    let mut listed = Listed::default();
    match config {
        None => return Origins::Any,
        Some(CorsOrigin::Reflect) => return Origins::Reflect,
        Some(CorsOrigin::Text(text)) if text == "*" => return Origins::Any,
        Some(CorsOrigin::Text(text)) => {
            if let Err(message) = listed.add(text) {
                found.push(ConfigError::new("origin", message));
            }
        }
        Some(CorsOrigin::List(items)) => {
            if items.is_empty() {
                found.push(ConfigError::new(
                    "origin",
                    "an empty list allows nobody; write `enabled: false` to switch CORS off",
                ));
            }
            for (index, item) in items.iter().enumerate() {
                if let Err(message) = listed.add(item) {
                    found.push(ConfigError::new(format!("origin[{index}]"), message));
                }
            }
        }
    }
    Origins::Listed(listed)
}

fn check_credentials(config: &CorsConfig, origins: &Origins, found: &mut Vec<ConfigError>) {
    let mut refuse = |message: &str| found.push(ConfigError::new("credentials", message));
    match origins {
        Origins::Any if config.origin.is_none() => refuse(
            "`true` needs `origin` to name who may use them; without it every origin is allowed",
        ),
        Origins::Any => {
            refuse("`true` cannot go with `origin: '*'`; list the origins that need credentials");
        }
        Origins::Reflect => refuse(
            "`true` cannot go with `origin: true`, or every page on the Internet could use the users' \
             sessions; list the origins that need credentials",
        ),
        Origins::Listed(listed) if listed.null => refuse(
            "`true` cannot go with the origin `null`, which every sandboxed page has; take `null` off the list",
        ),
        Origins::Listed(_) => {}
    }
    for (key, list) in [
        ("methods", &config.methods),
        ("allowedHeaders", &config.allowed_headers),
        ("exposedHeaders", &config.exposed_headers),
    ] {
        if list
            .iter()
            .any(|list| list.items().iter().any(|item| item == "*"))
        {
            found.push(ConfigError::new(
                key,
                "`*` stands for nothing in answers with credentials; write the names",
            ));
        }
    }
}

fn status(config: Option<u64>, found: &mut Vec<ConfigError>) -> StatusCode {
    let Some(number) = config else {
        return StatusCode::NO_CONTENT;
    };
    let status = u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok())
        .filter(StatusCode::is_success);
    if status.is_none() {
        found.push(ConfigError::new(
            "optionsSuccessStatus",
            format!("browsers take only 200 to 299 as a yes, but this is {number}"),
        ));
    }
    status.unwrap_or(StatusCode::NO_CONTENT)
}

fn is_empty_text(list: &CommaList) -> bool {
    matches!(list.items(), [only] if only.is_empty())
}

/// The items with commas between, or `None` if there are none or one is not good.
fn join(
    key: &str,
    list: &CommaList,
    check: fn(&str) -> Result<(), String>,
    found: &mut Vec<ConfigError>,
) -> Option<HeaderValue> {
    let before = found.len();
    for (index, item) in list.items().iter().enumerate() {
        if let Err(message) = check(item) {
            found.push(ConfigError::new(format!("{key}[{index}]"), message));
        }
    }
    if found.len() > before || list.items().is_empty() {
        return None;
    }
    HeaderValue::from_str(&list.items().join(",")).ok()
}

fn is_method(item: &str) -> Result<(), String> {
    if item.is_empty() || Method::from_bytes(item.as_bytes()).is_err() {
        return Err(format!("`{item}` is no HTTP method"));
    }
    if item.bytes().any(|b| b.is_ascii_lowercase()) {
        return Err(format!(
            "methods are compared letter by letter; write `{}` for `{item}`",
            item.to_ascii_uppercase()
        ));
    }
    Ok(())
}

fn is_field_name(item: &str) -> Result<(), String> {
    HeaderName::from_bytes(item.as_bytes())
        .map(drop)
        .map_err(|_| format!("`{item}` is no name of a header field"))
}

#[cfg(test)]
mod tests;
