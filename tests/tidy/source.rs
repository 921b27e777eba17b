//! What a source file refers to, read as the compiler reads it.
//!
//! Paths are made whole: `self` and `super` are resolved against the file's module, a name that a `use`
//! brought in stands for what it names, groups are taken apart, and the insides of macros and attributes
//! are read as tokens. Code under `#[cfg(test)]` is left out: a test inside a room may stand on another
//! room's simulated side.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// A path that the code names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// From the root: `crate::domain::money::Usd`, `std::time::Instant::now`. A glob ends in `*`.
    pub path: Vec<String>,
    pub line: usize,
    /// Whether a `use` brings it in, so that naming a parent brings in everything below it.
    pub is_import: bool,
}

impl Reference {
    pub fn text(&self) -> String {
        self.path.join("::")
    }
}

/// An `#[expect(...)]` or `#[allow(...)]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub lint: String,
    pub line: usize,
}

/// What one file refers to.
#[derive(Debug, Default)]
pub struct Source {
    pub references: Vec<Reference>,
    pub exceptions: Vec<Exception>,
    /// Names of macros that are called, with their lines; in test code too.
    pub macros: Vec<(String, usize)>,
    /// Names of modules in other files that are declared under `#[cfg(test)]`.
    pub test_modules: Vec<String>,
    pub has_module_doc: bool,
}

/// Parses a file; `module` is its path from the crate's root: `["domain", "money"]`.
pub fn parse(text: &str, module: &[String]) -> Result<Source, String> {
    let file = syn::parse_file(text).map_err(|error| format!("line {}: {error}", error.span().start().line))?;
    let mut reader = Reader {
        module: module.to_vec(),
        imports: BTreeMap::new(),
        source: Source::default(),
    };
    reader.source.has_module_doc = file.attrs.iter().any(|attr| attr.path().is_ident("doc"));
    // First what is imported, since a `use` may stand below what relies on it.
    reader.collect_imports(&file.items);
    reader.visit_file(&file);
    Ok(reader.source)
}

struct Reader {
    module: Vec<String>,
    /// What a name stands for in this file.
    imports: BTreeMap<String, Vec<String>>,
    source: Source,
}

impl Reader {
    fn collect_imports(&mut self, items: &[syn::Item]) {
        for item in items {
            match item {
                syn::Item::Use(import) if !is_test_only(&import.attrs) => {
                    let mut leaves = Vec::new();
                    flatten(&import.tree, &mut Vec::new(), &mut leaves);
                    for (path, name) in leaves {
                        let path = self.resolve(path);
                        self.imports.insert(name, path);
                    }
                }
                syn::Item::Mod(module) if !is_test_only(&module.attrs) => {
                    if let Some((_, items)) = &module.content {
                        self.module.push(module.ident.to_string());
                        self.collect_imports(items);
                        self.module.pop();
                    }
                }
                _ => {}
            }
        }
    }

    /// Replaces `crate`, `self` and `super` at the beginning.
    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        let mut at = self.module.clone();
        let mut relative = false;
        let mut rest = path.as_slice();
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => relative = true,
                "super" => {
                    relative = true;
                    at.pop();
                }
                _ => break,
            }
            rest = others;
        }
        if !relative {
            return path;
        }
        let mut whole = vec!["crate".to_owned()];
        whole.extend(at);
        whole.extend(rest.iter().cloned());
        whole
    }

    fn refer(&mut self, path: Vec<String>, line: usize) {
        let mut path = self.resolve(path);
        if let Some(imported) = path.first().and_then(|first| self.imports.get(first)) {
            let rest = path.split_off(1);
            path = imported.clone();
            path.extend(rest);
        }
        self.source.references.push(Reference {
            path,
            line,
            is_import: false,
        });
    }

    /// Reads paths out of tokens: `a::b::c` and single names that an import explains.
    fn read_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.refer_all(&mut path, line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Punct(punct) if punct.as_char() == '!' && colons == 0 => {
                    // A macro inside a macro.
                    if let Some(name) = path.last() {
                        self.source.macros.push((name.clone(), line));
                    }
                    self.refer_all(&mut path, line);
                }
                TokenTree::Group(group) => {
                    self.refer_all(&mut path, line);
                    colons = 0;
                    self.read_tokens(group.stream());
                }
                _ => {
                    self.refer_all(&mut path, line);
                    colons = 0;
                }
            }
        }
        self.refer_all(&mut path, line);
    }

    fn refer_all(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        let is_explained = path.first().is_some_and(|first| self.imports.contains_key(first));
        if path.len() > 1 || is_explained {
            self.refer(path, line);
        }
    }

    /// `expect(clippy::a, b, reason = "...")` excepts from `clippy::a` and from `b`.
    fn read_exception(&mut self, attr: &syn::Attribute) {
        let line = attr.span().start().line;
        let syn::Meta::List(list) = &attr.meta else { return };
        let text = list.tokens.to_string().replace(' ', "");
        for lint in text.split(',').take_while(|part| !part.starts_with("reason=")) {
            if !lint.is_empty() {
                let lint = lint.to_owned();
                self.source.exceptions.push(Exception { lint, line });
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        } else if let syn::Item::Mod(module) = item
            && module.content.is_none()
        {
            self.source.test_modules.push(module.ident.to_string());
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        let mut leaves = Vec::new();
        flatten(&import.tree, &mut Vec::new(), &mut leaves);
        let line = import.span().start().line;
        for (path, _) in leaves {
            let path = self.resolve(path);
            self.source.references.push(Reference {
                path,
                line,
                is_import: true,
            });
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.refer(names, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.segments.last() {
            let line = call.path.span().start().line;
            self.source.macros.push((name.ident.to_string(), line));
        }
        self.read_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attr: &'ast syn::Attribute) {
        if attr.path().is_ident("expect") || attr.path().is_ident("allow") {
            self.read_exception(attr);
            return;
        }
        if let syn::Meta::List(list) = &attr.meta {
            self.read_tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attr);
    }
}

/// Takes a `use` apart: the path of each leaf and the name that it gets here.
fn flatten(tree: &syn::UseTree, above: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    let leaf = |name: &str, above: &[String]| {
        let mut path = above.to_vec();
        // `use a::b::{self}` names `b`.
        if name != "self" || path.is_empty() {
            path.push(name.to_owned());
        }
        path
    };
    match tree {
        syn::UseTree::Path(tree) => {
            above.push(tree.ident.to_string());
            flatten(&tree.tree, above, leaves);
            above.pop();
        }
        syn::UseTree::Name(tree) => {
            let path = leaf(&tree.ident.to_string(), above);
            let name = path.last().cloned().unwrap_or_default();
            leaves.push((path, name));
        }
        syn::UseTree::Rename(tree) => {
            let path = leaf(&tree.ident.to_string(), above);
            leaves.push((path, tree.rename.to_string()));
        }
        syn::UseTree::Glob(_) => leaves.push((leaf("*", above), "*".to_owned())),
        syn::UseTree::Group(tree) => {
            for tree in &tree.items {
                flatten(tree, above, leaves);
            }
        }
    }
}

fn is_test_only(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let is_cfg = attr.path().is_ident("cfg");
        is_cfg && matches!(&attr.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
