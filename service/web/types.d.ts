// Types of what the page reads from the API, and of what its modules pass to each other.

import type * as replies from "./replies.d.ts";

export type {
  AddedReviews,
  Agreement,
  ClassStatistics,
  ComparedExample,
  Comparison,
  Concentration,
  DamagedRun,
  Dynamics,
  ElementClass,
  ElementConfusion,
  ExampleDetail,
  ExampleRow,
  ExamplesPage,
  ExampleUnit,
  ExportPreview,
  LeasedRows,
  Precision,
  Progress,
  Remaining,
  Review,
  RowReview,
  Run,
  ScoredExample,
} from "./replies.d.ts";

export type Verdict = replies.Review["verdict"];
/** The verdict of all reviewers together. */
export type CurrentVerdict = Verdict | "conflict";
export type Attributes = Record<string, unknown>;
/** A lower and an upper bound; null where there is none. */
export type Range = [number | null, number | null];
export type Region = keyof replies.RegionCounts;
export type Task = replies.Run["task"];
/** A label, a span [start, stop] of tokens or the number of a region; null for a whole example. */
export type Unit = replies.ExampleUnit["unit"];
/** The first place along each axis, and the last place plus 1. */
export type Box = replies.ExampleUnit["box"];
/** The elements of an example, flat, and the axes of its targets. */
export type Elements = Pick<replies.ExampleElements, "shape" | "targets" | "predictions">;
/** The part of a run that names its classes. */
export type NamedClasses = Pick<replies.Run, "class_names"> & { task?: Task };
/** The classes of a run, or the labels of a multi-label run. */
export type Classes = NamedClasses & Pick<replies.Run, "num_classes">;
/** All diagnostics. A request with `fields` returns a part of them. */
export type Diagnostics = Required<replies.Diagnostics>;

/** A stored queue; only a preview has no name. */
export interface Queue extends replies.Queue {
  name: string;
}

export interface QueuePage extends Omit<replies.QueuePage, "rows"> {
  name: string;
  rows: QueueRow[];
}

export type QueuePreview = replies.QueuePage;

/** A row of a queue. A request with `fields` returns a part of its members. */
export type QueueRow =
  & Pick<
    Required<replies.QueueRow>,
    | "id"
    | "rank"
    | "suggested"
    | "loss"
    | "reason"
    | "attributes"
    | "verdict"
    | "verdict_label"
    | "review"
    | "reviews"
    | "done"
    | "suggestion"
  >
  & UnitRow;

/** A row of a queue with the verdicts that are being saved. */
export interface ReviewedRow extends QueueRow {
  /** Number of requests in flight. */
  saving?: number;
  /** The verdict of the last request in flight. */
  pending?: Judgement | null;
}

export interface Judgement {
  verdict: Verdict;
  label: number | null;
  comment?: string | null;
  /** True if it settles what reviewers disagree about. */
  adjudicate?: boolean;
}

/** An item of the body of `POST /runs/{run}/reviews`. */
export interface ReviewRequest extends Judgement {
  id: string;
  unit?: Unit;
  queue: string;
  reviewer?: string;
  expected?: string | null;
}

/** The reply of `GET /session`. */
export interface Session {
  needs_key: boolean;
  signed_in: boolean;
  name: string | null;
  role: "reader" | "reviewer" | "owner" | null;
}

/** The person at the page. */
export interface Person extends Pick<Session, "name" | "role"> {
  /** True if the name is that of the key; otherwise the browser remembers it. */
  fromKey: boolean;
  canReview: boolean;
  isOwner: boolean;
}

/** A verdict of one row of a step. */
export interface RowVerdict extends Judgement {
  row: ReviewedRow;
}

/** The body of `POST /runs/{run}/queues`. */
export interface QueueRequest extends Partial<Omit<replies.QueueSettings, "strategy" | "only">> {
  strategy: string;
  budget: number;
  only?: QueueFilter | null;
}

export type QueueFilter = Partial<replies.RowConditions>;

/** A structured example, or a unit of it. */
export interface UnitRow {
  id: string;
  unit?: Unit;
  target: number | null;
  suggested: number | null;
  num_elements?: number;
  box?: Box | null;
  attributes: Attributes;
}

/** Scores of an example that the page explains. */
export type Score = keyof replies.Percentiles;

/** A problem+json reply. */
export interface ProblemReply {
  title?: string;
  detail?: string;
  code?: string;
  errors?: Fault[];
  /** The last review of the example, of the code `review_conflict` only. */
  current?: replies.Review | null;
}

/** A fault in a request; `loc` is its place, such as ["batches", 0, "targets", 3]. */
export interface Fault {
  loc: (string | number)[];
  msg: string;
}

/** The context of a view. The signal aborts when the user leaves the view. */
export interface View {
  parts: string[];
  query: URLSearchParams;
  signal: AbortSignal;
  refused: Refused;
  /** Shows the view again. */
  again: () => void;
}

/** An error, with the status and code of the reply if it comes from the service. */
export type Failure = Error & { status?: number; code?: string; current?: replies.Review | null; errors?: Fault[] };

/** Shows the sign-in form if an error is a 401. True if it did. */
export type Refused = (error: Failure) => boolean;

/** Content of an element: text, elements, lists of them. Null, undefined and false are left out. */
export type Child = Node | string | number | null | undefined | false | readonly Child[];
