from pathlib import Path

from registry_wsgi.names import Name


class GGUFFolder:
    def __init__(self, folder):
        self.folder = Path(folder)

    def unlink(self, name):
        name = Name.parse(name)
        if name != Name.parse(name.model):  # here is one host, one namespace, one tag
            return False
        try:
            (self.folder / f"{name.model}.gguf").unlink()
        except FileNotFoundError:
            return False
        return True

    def prune(self):
        pass  # a model is one file: nothing is left over
