#!/bin/sh
# The plug-ins for other programs' trainings, tested with those programs, in an environment of their own that
# borrows the packages of .venv. nnU-Net, Ignite and Lightning are installed into it, torch is not replaced.
set -eu
cd "$(dirname "$0")/.."
PLACE=build/plugins
PLUGINS="plugins/segexplorer-nnunet plugins/segexplorer-monai plugins/segexplorer-lightning"

if ! test -e "$PLACE/.installed" || test -n "$(find plugins -name pyproject.toml -newer "$PLACE/.installed")"; then
  .venv/bin/python -m venv "$PLACE"
  packages=$("$PLACE/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
  .venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" >"$packages/segexplorer_environment.pth"
  echo "Installing nnU-Net, Ignite and Lightning into $PLACE (minutes the first time)" >&2
  torch=$(.venv/bin/python -c "import importlib.metadata as m; print(m.version('torch').split('+')[0])")
  "$PLACE/bin/python" -m pip install --quiet --no-input "torch==$torch" "nnunetv2>=2.8" "pytorch-ignite>=0.5" "lightning>=2.5"
  for plugin in $PLUGINS; do
    "$PLACE/bin/python" -m pip install --quiet --no-input --no-deps --editable "$plugin"
  done
  if ! "$PLACE/bin/python" -c "import torchvision" 2>/dev/null; then
    cp scripts/torchvision_beside_cpu_torch.py "$packages/sitecustomize.py"
  fi
  touch "$PLACE/.installed"
fi
# shellcheck disable=SC2086
exec "$PLACE/bin/python" -m pytest -p no:cacheprovider --timeout 3000 $PLUGINS "$@"
