/** Which verbs a path has, for the answers that no route gives: wrong verb, OPTIONS, an empty part. */
import type { Route } from "./route.ts";

export interface RouteFinder {
  /** The verbs that the path takes, with OPTIONS; none where it is unknown. */
  verbs(path: string): string[];
  /** Whether its GET changes something, so that no HEAD may stand for it. */
  isUnsafe(path: string): boolean;
  /** The path with names for its parameters, `/p2p/send/NAME/TEXT`. */
  shape(path: string): string | undefined;
}

interface Entry {
  readonly route: Route;
  readonly pattern: RegExp;
  readonly shape: string;
}

export function createRouteFinder(routes: readonly Route[]): RouteFinder {
  const entries: Entry[] = routes.flatMap((route) =>
    [route.path, ...route.aliases].map((path) => ({
      route,
      pattern: patternOf(path, route.takesPairs),
      shape: shapeOf(path),
    })),
  );
  const match = (path: string): Entry[] => entries.filter(({ pattern }) => pattern.test(path));
  return {
    verbs(path) {
      const found = match(path).map(({ route }) => route);
      if (found.length === 0) return [];
      const verbs = new Set<string>(found.map(({ verb }) => verb));
      if (found.some(({ isSafe }) => isSafe)) verbs.add("HEAD");
      return [...verbs, "OPTIONS"];
    },
    isUnsafe: (path) => {
      const gets = match(path).filter(({ route }) => route.verb === "GET");
      return gets.length > 0 && !gets.some(({ route }) => route.isSafe);
    },
    shape: (path) => match(path)[0]?.shape,
  };
}

function patternOf(path: string, takesPairs: boolean): RegExp {
  const parts = path.split("/").map((part) => (part.startsWith(":") ? "[^/]*" : part.replaceAll(".", "\\.")));
  return new RegExp(`^${parts.join("/")}${takesPairs ? "(?:/.*)?" : ""}$`);
}

function shapeOf(path: string): string {
  return path.replaceAll(/:([a-z]+)/g, (_, name: string) => name.toUpperCase());
}
