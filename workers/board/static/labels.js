// Taking a label back: nobody has said anything of the part any more, here, in Redis and in the review folder.

import { partPath, post } from "./api.js";
import { relabel } from "./model.js";

/** Take a part's label back; its row as it is now. */
export async function takeBack(row, replace = false) {
  const answer = await post(`api/review/${partPath(row.part)}`, { label: "withdrawn", ...(replace ? { replace } : {}) });
  const free = { ...row, ...answer.row };
  relabel(free);
  return free;
}
