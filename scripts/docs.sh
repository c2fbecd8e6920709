#!/usr/bin/env bash
# Builds the documentation as a site; a warning (a link that leads nowhere, a page that is in no
# navigation) is an error.
#
#   scripts/docs.sh [SITE [SOURCE]]     defaults: build/site, the checkout
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
site=${1:-$root/build/site}
python -c 'import furo, myst_parser, sphinx' 2>/dev/null || {
  echo "docs: Sphinx, MyST or Furo is missing; \`pip install -r requirements/docs.txt\`" >&2
  exit 1
}
python -m sphinx -q -n -W --keep-going -c "$root/docs" -d "$site/.doctrees" "${2:-$root}" "$site"
echo "docs: $site/index.html"
