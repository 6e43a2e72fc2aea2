// Files that the user drops on the list of runs, or chooses there, become a run.

import { MEDIA_TYPES } from "../lib/run_upload.js";
import { askForRun } from "./drop_form.js";
import { fileDrop } from "./file_drop.js";

/** @import { View } from "../types.d.ts" */

/** @param {View} view */
export const dropZone = (view) =>
  fileDrop(view.signal, {
    label: "Files with predictions",
    title: "Drop a file here, or choose one",
    hint: "Parquet, Arrow, CSV or safetensors becomes a run. Columns such as text or image come along.",
    types: MEDIA_TYPES,
    multiple: true,
    accept: (files, notice) => askForRun(files, view, notice),
  });
