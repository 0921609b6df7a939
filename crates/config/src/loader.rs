use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use crate::config::{Config, Policies};
use crate::expand::{self, Variables};
use crate::node::{Kind, Node, Origin, Path, Scalar, Typed};
use crate::problem::{Problem, Report, Scrubber, file_name};
use crate::secrets;
use crate::typed::{self, Finding};
use crate::{env_file, files, sources, yaml};

/// How long a configuration may be.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads one configuration from its sources.
///
/// ```
/// use proactions_config::Loader;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("config.yaml");
/// std::fs::write(&path, "hub:\n  port: ${PORT-3000}\n  hots: localhost\n")?;
///
/// let report = Loader::new(&path).env([("PORT", "70000")]).load().unwrap_err();
/// assert_eq!(
///     report.to_string(),
///     "config.yaml:2: hub.port: expected a whole number from 0 to 65535 (the value comes from ${PORT})\n\
///      config.yaml:3: hub.hots: unknown key, did you mean host?"
/// );
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Loader {
    source: FileSource,
    env: BTreeMap<String, String>,
}

enum FileSource {
    Path(PathBuf),
    Text { name: String, text: String },
}

/// A configuration that can be served.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// What the sources say.
    pub config: Config,
    /// The same, checked and ready to run.
    pub policies: Policies,
    /// What is allowed and dangerous.
    pub warnings: Vec<Problem>,
    /// The configuration, the `.env` file if there is one, and every file that a `VAR_FILE` named.
    pub files_read: Vec<PathBuf>,
}

impl Loader {
    /// Reads the file at `path`, and `.env` beside it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            source: FileSource::Path(path.into()),
            env: BTreeMap::new(),
        }
    }

    /// Reads `text` instead of a file, and no `.env`. Messages call it `name`.
    #[must_use]
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            source: FileSource::Text {
                name: name.into(),
                text: text.into(),
            },
            env: BTreeMap::new(),
        }
    }

    /// Adds environment variables. Unless this or [`Self::process_env`] is called there are none.
    #[must_use]
    pub fn env<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env
            .extend(variables.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Adds the environment of this process. A variable that is not Unicode counts as unset.
    #[must_use]
    pub fn process_env(self) -> Self {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        self.env(variables)
    }

    /// Reads, expands and checks everything.
    ///
    /// # Errors
    /// Every problem that was found, in all sources and all sections at once.
    pub fn load(&self) -> Result<Loaded, Report> {
        let mut run = Run::new(self);
        match run.load(self) {
            Some((config, policies)) if run.problems.is_empty() => Ok(Loaded {
                config,
                policies,
                warnings: run.warnings,
                files_read: run.files_read,
            }),
            _ => Err(Report::new(run.problems)),
        }
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: &dyn fmt::Debug = match &self.source {
            FileSource::Path(path) => path,
            FileSource::Text { name, .. } => name,
        };
        f.debug_struct("Loader")
            .field("source", name)
            .finish_non_exhaustive()
    }
}

/// One load: what was found so far.
struct Run {
    /// What messages call the file.
    file: PathBuf,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    files_read: Vec<PathBuf>,
    scrubber: Scrubber,
    /// Values that were taken out because they are wrong; nothing more is said about them.
    removed: Vec<Path>,
}

impl Run {
    fn new(loader: &Loader) -> Self {
        Self {
            file: match &loader.source {
                FileSource::Path(path) => file_name(path),
                FileSource::Text { name, .. } => PathBuf::from(name),
            },
            problems: Vec::new(),
            warnings: Vec::new(),
            files_read: Vec::new(),
            scrubber: Scrubber::default(),
            removed: Vec::new(),
        }
    }

    fn load(&mut self, loader: &Loader) -> Option<(Config, Policies)> {
        let mut variables = Variables::new(loader.env.clone());
        let text = match &loader.source {
            FileSource::Text { text, .. } => text.clone(),
            FileSource::Path(path) => {
                self.read_env_file(path, &mut variables);
                self.read_file(path)?
            }
        };
        let mut file = self.parse(&text)?;
        self.refuse_nulls(&mut file);
        let mut tree = match sources::merge(&file, &variables) {
            Ok(tree) => tree,
            Err(message) => {
                self.problem(None, &Path::default(), message);
                return None;
            }
        };
        self.expand(&mut tree, &mut variables);
        self.files_read.extend(variables.into_files_read());
        self.look_after_secrets(&tree, loader);

        // Lines are looked up in the tree as it was before anything was taken out for being wrong.
        let whole = tree.clone();
        let skip_unknown_keys = skips_unknown_keys(&whole);
        let outcome = typed::read::<Config>(&mut tree, &mut self.removed, skip_unknown_keys);
        for finding in outcome.problems {
            self.found(&whole, finding);
        }
        for finding in outcome.warnings {
            let problem = self.place(&whole, finding);
            self.warnings.push(problem);
        }
        let config = outcome.value?;
        let policies = self.check(&whole, &config);
        Some((config, policies?))
    }

    fn read_file(&mut self, path: &FilePath) -> Option<String> {
        match files::read_text(path, MAX_FILE) {
            Ok(text) => {
                self.files_read.push(path.to_owned());
                Some(text)
            }
            Err(message) => {
                // Only here the whole path helps: the file may not be where it is looked for.
                let problem = Problem::new(path, None, "", message);
                self.problems.push(problem);
                None
            }
        }
    }

    fn read_env_file(&mut self, config: &FilePath, variables: &mut Variables) {
        let path = config.with_file_name(".env");
        if !path.exists() {
            return;
        }
        let text = match files::read_text(&path, MAX_FILE) {
            Ok(text) => text,
            Err(message) => {
                self.problems.push(Problem::new(&path, None, "", message));
                return;
            }
        };
        let (pairs, faults) = env_file::parse(&text);
        for fault in faults {
            let problem = Problem::new(".env", Some(fault.line), "", fault.message);
            self.problems.push(problem);
        }
        // The last line of a name counts, as in a shell.
        for (name, value) in pairs.into_iter().rev() {
            variables.add_default(name, value);
        }
        if let Some(message) = secrets::exposed(files::readers(&path)) {
            self.warnings.push(Problem::new(".env", None, "", message));
        }
        self.files_read.push(path);
    }

    fn parse(&mut self, text: &str) -> Option<Node> {
        let (tree, faults) = yaml::parse(text);
        for fault in faults {
            self.problem(Some(fault.line), &fault.path, fault.message);
        }
        let tree = tree?;
        if tree.is_null() {
            self.problem(
                Some(tree.line),
                &Path::default(),
                "the file holds no configuration",
            );
            return None;
        }
        if !matches!(tree.kind, Kind::Map(_)) {
            let message = format!("expected sections such as hub:, found {}", tree.found());
            self.problem(Some(tree.line), &Path::default(), message);
            return None;
        }
        Some(tree)
    }

    /// A key without a value is a mistake (a forgotten line, a wrong indentation), but for the few places
    /// where `null` means something.
    fn refuse_nulls(&mut self, tree: &mut Node) {
        let mut nulls = Vec::new();
        tree.walk(&mut |path, node| {
            if node.is_null() && !may_be_null(path) {
                nulls.push((path.clone(), node.line));
            }
        });
        for (path, line) in nulls {
            tree.remove(&path.0);
            let message = "has no value; give it one or leave the key out";
            self.problem(Some(line), &path, message);
            self.removed.push(path);
        }
    }

    fn expand(&mut self, tree: &mut Node, variables: &mut Variables) {
        let mut texts = Vec::new();
        tree.walk(&mut |path, node| {
            if let Some(scalar) = node.scalar()
                && scalar.origin == Origin::File
                && !path.is_key(&["logging", "text_format"])
            {
                texts.push((path.clone(), node.line, scalar.clone()));
            }
        });
        for (path, line, scalar) in texts {
            match expand::expand(scalar.text(), variables) {
                Ok(None) => {}
                Ok(Some(expanded)) => {
                    let origin = if expanded.names.is_empty() {
                        Origin::File
                    } else {
                        Origin::Variables(expanded.names)
                    };
                    let mut scalar = Scalar::new(expanded.text, scalar.plain, origin);
                    // Set but empty is empty text, not «no value».
                    if scalar.typed == Typed::Null {
                        scalar.typed = Typed::Text;
                    }
                    if let Some(node) = tree.get_mut(&path.0) {
                        node.kind = Kind::Scalar(scalar);
                    }
                }
                Err(faults) => {
                    tree.remove(&path.0);
                    for fault in faults {
                        self.problem(Some(line), &path, fault.to_string());
                    }
                    self.removed.push(path);
                }
            }
        }
    }

    /// Learns what must not be shown, and warns about secrets that others can read.
    fn look_after_secrets(&mut self, tree: &Node, loader: &Loader) {
        let mut inline = Vec::new();
        tree.walk(&mut |path, node| {
            let Some(scalar) = node.scalar() else {
                return;
            };
            let secret = secrets::is_secret(path, scalar);
            if secret || (scalar.is_substituted() && !matches!(scalar.typed, Typed::Bool(_))) {
                self.scrubber.hide(scalar.text());
            }
            let written_here = scalar.origin == Origin::File && !scalar.text().is_empty();
            if secret && written_here && secrets::belongs_elsewhere(path) {
                inline.push((path.clone(), node.line));
            }
        });
        let FileSource::Path(file) = &loader.source else {
            return;
        };
        if let Some(message) = secrets::exposed(files::readers(file)).filter(|_| !inline.is_empty())
        {
            self.warnings
                .push(Problem::new(&self.file, None, "", message));
        }
        for (path, line) in inline {
            let message =
                "a secret stands in the file itself; put it into a variable and write ${NAME}";
            self.warnings.push(Problem::new(
                &self.file,
                Some(line),
                path.to_string(),
                message,
            ));
        }
    }

    fn check(&mut self, tree: &Node, config: &Config) -> Option<Policies> {
        for warning in config.warnings() {
            let finding = Finding {
                path: Path::parse(&warning.key, tree),
                message: warning.message,
                foreign_words: true,
            };
            let problem = self.place(tree, finding);
            self.warnings.push(problem);
        }
        let duplicates = config.duplicate_ids();
        let mut told = Vec::new();
        for (first, second) in duplicates {
            let first_line = line_of(tree, &Path::parse(&first, tree));
            let path = Path::parse(&second, tree);
            let message = match first_line {
                Some(line) => format!("this id is taken; {first} has it, at line {line}"),
                None => format!("this id is taken; {first} has it"),
            };
            told.push(path.clone());
            self.found(tree, Finding::new(path, message));
        }
        match config.check() {
            Ok(policies) => Some(policies),
            Err(error) => {
                for problem in error.into_problems() {
                    let path = Path::parse(&problem.key, tree);
                    if told.contains(&path) || self.is_consequence(&path) {
                        continue;
                    }
                    self.found(
                        tree,
                        Finding {
                            path,
                            message: problem.message,
                            foreign_words: true,
                        },
                    );
                }
                None
            }
        }
    }

    /// Whether a check can only complain about `path` because a value there, below or just above was wrong
    /// and taken out.
    fn is_consequence(&self, path: &Path) -> bool {
        self.removed.iter().any(|removed| {
            path.starts_with(removed) || removed.parent().is_some_and(|parent| parent == *path)
        })
    }

    fn found(&mut self, tree: &Node, finding: Finding) {
        let problem = self.place(tree, finding);
        self.problems.push(problem);
    }

    fn place(&self, tree: &Node, finding: Finding) -> Problem {
        let origin = tree
            .get(&finding.path.0)
            .and_then(Node::scalar)
            .map(|scalar| &scalar.origin);
        let mut problem = match origin {
            Some(Origin::Environment(name)) => {
                Problem::new(*name, None, finding.path.to_string(), finding.message)
            }
            _ => {
                let line = line_of(tree, &finding.path);
                Problem::new(&self.file, line, finding.path.to_string(), finding.message)
            }
        };
        if finding.foreign_words {
            self.scrubber.scrub(&mut problem);
        }
        problem
    }

    fn problem(&mut self, line: Option<usize>, path: &Path, message: impl Into<String>) {
        self.problems
            .push(Problem::new(&self.file, line, path.to_string(), message));
    }
}

/// The line of the value, or of the innermost one around it.
fn line_of(tree: &Node, path: &Path) -> Option<usize> {
    let mut node = tree;
    let mut line = None;
    for segment in &path.0 {
        let Some(inner) = node.child(segment) else {
            break;
        };
        node = inner;
        if node.line > 0 {
            line = Some(node.line);
        }
    }
    line
}

fn skips_unknown_keys(tree: &Node) -> bool {
    tree.at(&["validation", "skipSchemaValidation"])
        .and_then(Node::scalar)
        .is_some_and(|scalar| scalar.typed == Typed::Bool(true))
}

/// Where `null` has a meaning: it takes a directive out of the defaults of a content security policy, and a
/// provider's own parameters are passed on as they are.
fn may_be_null(path: &Path) -> bool {
    use crate::node::Segment::Key;
    let keys: Vec<_> = path
        .0
        .iter()
        .filter_map(|segment| match segment {
            Key(key) => Some(key.as_str()),
            _ => None,
        })
        .collect();
    match keys.as_slice() {
        [
            "hub",
            "security",
            "helmet",
            "contentSecurityPolicy",
            "directives",
            _,
        ] => true,
        ["targets", rest @ ..] => rest.split_last().is_some_and(|(_, above)| {
            above
                .iter()
                .any(|key| matches!(*key, "options" | "override_params"))
        }),
        _ => path.0.is_empty(),
    }
}
