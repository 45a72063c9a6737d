#!/usr/bin/env python3
"""Measure the style of a folder of nbdev notebooks and print one table row.

    python nbstats.py nbs                      # one row, with a header line
    python nbstats.py nbs --name avmatch       # name the row
    python nbstats.py nbs --format json        # every number, for a test or a budget check
    python nbstats.py nbs --per-notebook       # one row for each notebook instead
    python nbstats.py nbs --all                # also notebooks that export nothing (tutorials)

Needs only the standard library. It reads the notebooks' JSON; nothing is executed.

What the columns mean
---------------------
nbs        notebooks measured (those with a `#| default_exp`, unless --all)
cell_med   median non-blank lines in a code cell; cell_max: the longest
exp_med    median non-blank lines in an exported cell; exp_max: the longest
exp/nb     exported cells per notebook
fn_med     median lines of an exported function or method; fn_max: the longest
words/loc  markdown words per line of code, all code cells
w/exp_loc  markdown words per line of exported code
tests/fn   assertions (`assert`, `test_*`, `expect_fail`, `assert_*`) per public exported function or method
shown%     public exported functions and classes that appear in a cell which is not exported
doc%       public exported functions and classes that have a docstring
docm%      parameters of public top-level functions that carry a trailing comment (docment)
star       star imports in exported cells, per notebook
title%     notebooks that have an H1 title followed by a `>` summary
kb_med     median notebook size in KB; kb_max: the largest
out%       code cells that keep an output; out_kb: KB of outputs per notebook
img        images kept per notebook
unread     code cells that could not be parsed (they count for lengths only)
"""
import argparse
import ast
import json
import re
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

EXPORT_DIRECTIVES = {'export', 'exports', 'exporti'}
DIRECTIVE = re.compile(r'^\s*#\s?\|\s*([\w-]+)\s*:?\s*(.*)$')
ASSERTION_CALL = re.compile(r'^(test_\w+|expect_fail|assert_\w+|raises)$')
MAGIC = re.compile(r'^(\s*)(?:!.*|%{1,2}[A-Za-z].*|\?+[\w.]+|[\w.]+\?+)$', re.M)
TITLE = re.compile(r'^#\s+\S', re.M)
SUMMARY = re.compile(r'^>\s*\S', re.M)
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Counts:
    "Everything counted in one notebook; sums and joins over notebooks with `+`."
    notebooks: int = 0
    titled: int = 0
    words: int = 0
    code_cells: int = 0
    cells_with_output: int = 0
    output_bytes: int = 0
    images: int = 0
    assertions: int = 0
    star_imports: int = 0
    unparsed: int = 0
    documented: int = 0
    params: int = 0
    docments: int = 0
    cell_lines: list = field(default_factory=list)
    export_lines: list = field(default_factory=list)
    function_lines: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    callables: list = field(default_factory=list)  # public functions and methods
    symbols: list = field(default_factory=list)    # public top-level functions and classes
    shown: list = field(default_factory=list)      # those of `symbols` used in a cell that is not exported

    def __add__(self, other):
        return Counts(**{k: v + getattr(other, k) for k, v in vars(self).items()})


def joined(source):
    "A cell's source or an output's text as one string (the format allows a list of lines)."
    return source if isinstance(source, str) else ''.join(source or [])

def directives(cell, source):
    "Names of the `#|` directives of a cell, in comments or in the cell's metadata."
    names = {m[1] for line in source.splitlines() if (m := DIRECTIVE.match(line))}
    return names | set((cell.get('metadata') or {}).get('nbdev') or {})

def code_lines(source):
    "Lines that are neither blank nor a directive."
    return [line for line in source.splitlines() if line.strip() and not DIRECTIVE.match(line)]

def without_magics(source):
    "Source with IPython magics and shell lines replaced, so that `ast` can read it."
    if source.lstrip().startswith('%%'): return ''
    return MAGIC.sub(r'\1pass', source)

def parse(source):
    "Syntax tree of a cell, or None where it is not Python."
    try: return compile(without_magics(source), '<cell>', 'exec', ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError): return None

def is_public(node):
    return not node.name.startswith('_')

def called_name(call):
    return getattr(call.func, 'id', None) or getattr(call.func, 'attr', '')

def count_assertions(tree):
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return (sum(isinstance(n, ast.Assert) for n in ast.walk(tree))
            + sum(bool(ASSERTION_CALL.match(called_name(c))) for c in calls))

def names_used(tree):
    "Every name and attribute mentioned in the tree."
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}

def params_of(function):
    a = function.args
    return [p for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ('self', 'cls')]

def count_docments(function, lines):
    "Parameters with a comment at the end of their line, or alone on the line above (inside the signature)."
    def has_comment(p):
        above = lines[p.lineno - 2].strip() if p.lineno - 1 > function.lineno else ''
        return '#' in lines[p.end_lineno - 1][p.end_col_offset:] or above.startswith('#')
    return sum(has_comment(p) for p in params_of(function))

def length(node):
    return node.end_lineno - node.lineno + 1

def add_exported(counts, tree, source):
    "Count the functions, classes and imports of an exported cell."
    lines = without_magics(source).splitlines()
    counts.star_imports += sum(isinstance(n, ast.ImportFrom) and n.names[0].name == '*' for n in ast.walk(tree))
    for node in tree.body:
        if not isinstance(node, (*FUNCTION, ast.ClassDef)): continue
        methods = [n for n in node.body if isinstance(n, FUNCTION)] if isinstance(node, ast.ClassDef) else [node]
        counts.function_lines += [length(m) for m in methods]
        if not is_public(node): continue
        counts.callables += [m.name for m in methods if is_public(m)]
        counts.symbols.append(node.name)
        counts.documented += ast.get_docstring(node) is not None
        if isinstance(node, FUNCTION):
            counts.params += len(params_of(node))
            counts.docments += count_docments(node, lines)

def add_outputs(counts, outputs):
    counts.cells_with_output += bool(outputs)
    counts.output_bytes += len(json.dumps(outputs)) if outputs else 0
    counts.images += sum(k.startswith('image/') for o in outputs for k in o.get('data', {}))

def measure(path, include_all=False):
    "Count one notebook; None where it is not a library notebook (and `include_all` is off)."
    raw = Path(path).read_bytes()
    cells = json.loads(raw)['cells']
    sources = [joined(c.get('source')) for c in cells]
    tags = [directives(c, s) if c['cell_type'] == 'code' else set() for c, s in zip(cells, sources)]
    if not include_all and not any('default_exp' in t for t in tags): return None

    counts, used = Counts(notebooks=1, sizes=[len(raw)]), set()
    for cell, source, tag in zip(cells, sources, tags):
        if cell['cell_type'] == 'markdown':
            counts.words += len(source.split())
            counts.titled |= bool(TITLE.search(source) and SUMMARY.search(source))
        if cell['cell_type'] != 'code': continue
        add_outputs(counts, cell.get('outputs') or [])
        lines = code_lines(source)
        if not lines: continue
        exported = bool(tag & EXPORT_DIRECTIVES)
        counts.code_cells += 1
        counts.cell_lines.append(len(lines))
        if exported: counts.export_lines.append(len(lines))
        tree = parse(source)
        if tree is None: counts.unparsed += 1
        elif exported: add_exported(counts, tree, source)
        else:
            counts.assertions += count_assertions(tree)
            used |= names_used(tree)
    counts.shown = [s for s in counts.symbols if s in used]
    return counts

def ratio(a, b, digits=2): return round(a / b, digits) if b else 0
def percent(a, b): return round(100 * a / b) if b else 0
def median(xs): return round(statistics.median(xs), 1) if xs else 0
def longest(xs): return max(xs, default=0)

def row(name, c):
    "The table row for the counts `c`."
    kb = [round(s / 1024, 1) for s in c.sizes]
    return {
        'name': name, 'nbs': c.notebooks,
        'cell_med': median(c.cell_lines), 'cell_max': longest(c.cell_lines),
        'exp_med': median(c.export_lines), 'exp_max': longest(c.export_lines),
        'exp/nb': ratio(len(c.export_lines), c.notebooks, 1),
        'fn_med': median(c.function_lines), 'fn_max': longest(c.function_lines),
        'words/loc': ratio(c.words, sum(c.cell_lines)), 'w/exp_loc': ratio(c.words, sum(c.export_lines)),
        'tests/fn': ratio(c.assertions, len(c.callables)),
        'shown%': percent(len(c.shown), len(c.symbols)), 'doc%': percent(c.documented, len(c.symbols)),
        'docm%': percent(c.docments, c.params), 'star': ratio(c.star_imports, c.notebooks, 1),
        'title%': percent(c.titled, c.notebooks), 'kb_med': median(kb), 'kb_max': longest(kb),
        'out%': percent(c.cells_with_output, c.code_cells),
        'out_kb': ratio(c.output_bytes / 1024, c.notebooks, 1), 'img': ratio(c.images, c.notebooks, 1),
        'unread': c.unparsed,
    }

def library_notebooks(folder):
    "Notebooks under `folder`, leaving out names that begin with `_` or `.` as nbdev does."
    folder = Path(folder)
    if folder.is_file(): return [folder]
    hidden = lambda p: any(part[0] in '_.' for part in p.relative_to(folder).parts)
    return sorted(p for p in folder.rglob('*.ipynb') if not hidden(p))

def show(rows, fmt):
    if fmt == 'json': return print(json.dumps(rows if len(rows) > 1 else rows[0], indent=1))
    sep = ' | ' if fmt == 'md' else '\t'
    edge = lambda s: f'| {s} |' if fmt == 'md' else s
    print(edge(sep.join(rows[0])))
    if fmt == 'md': print(edge(sep.join('---' for _ in rows[0])))
    for r in rows: print(edge(sep.join(map(str, r.values()))))

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', help='folder of notebooks (or one notebook)')
    p.add_argument('--name', help='name of the row (default: the folder)')
    p.add_argument('--format', choices=('tsv', 'md', 'json'), default='tsv')
    p.add_argument('--all', action='store_true', help='also notebooks without default_exp')
    p.add_argument('--per-notebook', action='store_true', help='one row a notebook')
    args = p.parse_args()

    found = [(path, measure(path, args.all)) for path in library_notebooks(args.folder)]
    found = [(path, counts) for path, counts in found if counts]
    if not found: sys.exit(f'No notebooks with default_exp under {args.folder}; try --all')
    if args.per_notebook: rows = [row(path.stem, counts) for path, counts in found]
    else: rows = [row(args.name or str(args.folder), sum((c for _, c in found), Counts()))]
    show(rows, args.format)


if __name__ == '__main__': main()
