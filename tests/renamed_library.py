"""A library in which a name is gone: the first lines of a program, whose arguments are the library and the name."""

from __future__ import annotations

from typing import Final

# Gives every module of the library another name in the place of one, where it has it.
RENAMING: Final = """
import importlib.abc, importlib.machinery, logging, re, sys
library, name = sys.argv[1:3]
NAME = re.compile(rf"\\b{name}\\b".encode())

class Renaming(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.path)
        if not NAME.search(source):
            return super().get_code(fullname)
        return self.source_to_code(NAME.sub(b"_gone" + name.encode(), source), self.path)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] != library:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Renaming(fullname, spec.origin)
        return spec

sys.meta_path.insert(0, Finder())
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("mlspan").addHandler(handler)
"""
