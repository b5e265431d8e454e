"""Sphinx's settings: sphinx-build -W --keep-going docs docs/_build

Lives here: settings. Must not: text, which is in the .rst files and in the docstrings.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import softloss

project = "softloss"
copyright = "softloss developers"
version = release = softloss.__version__
extensions = ["sphinx.ext.autosummary", "sphinx.ext.viewcode", "numpydoc"]
exclude_patterns = ["_build"]

autosummary_generate = True
default_role = "autolink"  # `name` is a link where there is such a function
autodoc_typehints = "none"  # the types stand in the text
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "pydata_sphinx_theme"
html_title = "softloss"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,  # all of them
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
without_children = ["index", "tutorial", "guide", "numerics", "performance", "cpp", "architecture", "search"]
html_sidebars = {page: [] for page in without_children}


if importlib.util.find_spec("matplotlib"):  # of the extra `docs`: the pictures that are not in git
    pictures = Path(__file__).parents[1] / "benchmarks" / "pictures.py"
    subprocess.run([sys.executable, pictures, "--docs"], check=True, stdout=subprocess.DEVNULL)


def setup(app):
    """Leave out of the modules' texts what is for contributors: the paragraphs on what lives in a file."""

    def for_users(app, what, name, obj, options, lines):
        if what == "module":
            paragraphs = "\n".join(lines).split("\n\n")
            kept = [text for text in paragraphs if not text.lstrip().startswith(("Lives here", "Must not"))]
            lines[:] = "\n\n".join(kept).split("\n")

    app.connect("autodoc-process-docstring", for_users)
