/** The page's files, as paths: on disk from source, inside the executable when compiled. */
declare module "swagger-ui-dist/*" {
  const path: string;
  export default path;
}
