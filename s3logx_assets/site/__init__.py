"""The web report of a release as files: static pages that need no network, and JavaScript only for comfort.

Published figures come in (core/scope_report.py), bytes go out. Nothing exact is known here, and what the figures are and
where the files go does not belong here. `templates` are Jinja's and escape what they are given.
"""
