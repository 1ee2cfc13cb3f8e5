import { expect, test } from "bun:test";
import { createAdmission } from "../../../core/infra/admission.ts";

test("one address gets a quarter of the places, and places that are given back serve again", () => {
  const admission = createAdmission(100);
  const admitted = (ip: string): number => {
    let count = 0;
    while (admission.admit(ip)) count++;
    return count;
  };
  expect(["a", "b", "c", "d", "e"].map(admitted)).toEqual([25, 25, 25, 25, 0]);
  admission.leave("a");
  expect([admission.count, admitted("b"), admitted("e"), admission.count]).toEqual([99, 0, 1, 100]);
  for (const ip of ["a", "b", "c", "d", "e"]) for (let i = 0; i < 30; i++) admission.leave(ip);
  expect(admission.count).toBe(0);
});

test("few places are not divided", () => {
  const admission = createAdmission(10);
  for (let i = 0; i < 10; i++) expect(admission.admit("a")).toBe(true);
  expect(admission.admit("b")).toBe(false);
});

test("of IPv6, a network of 64 bits counts as one address", () => {
  const admission = createAdmission(100);
  let admitted = 0;
  while (admission.admit(`2001:db8:0:1:${admitted.toString(16)}::1`)) admitted++;
  expect(admitted).toBe(25);
  expect(admission.admit("2001:db8:0:2::1")).toBe(true);
  admission.leave("2001:db8:0:1:ffff::");
  expect(admission.admit("2001:db8:0:1::7")).toBe(true);
});
