// The map: vector tiles of the campaign's parcels, the current parcel and its peers on top.
import * as maplibre from "/static/vendor/maplibre-gl/maplibre-gl.mjs";
import { colour, element, setText } from "./dom.js";

maplibre.setWorkerUrl("/static/vendor/maplibre-gl/maplibre-gl-worker.mjs");

const CREDIT = "Contains modified Copernicus Sentinel data";
const ROOM = { top: 60, bottom: 50, left: 50, right: 50 };
const NOTHING = { type: "FeatureCollection", features: [] };

export class ParcelMap {
  /** `onPick(code)` is called for a click on a parcel; throws where the browser has no WebGL. */
  constructor({ box, hint, onPick }) {
    Object.assign(this, { box, hint, onPick, code: null, peers: [] });
    this.map = new maplibre.Map({
      container: box, style: { version: 8, sources: {}, layers: [] }, attributionControl: false,
      dragRotate: false, pitchWithRotate: false, touchPitch: false, maxZoom: 19, fadeDuration: 0,
      transformRequest: (url) => ({ url, headers: { "X-Requested-With": "fetch" } }),
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
    this.map.addControl(new maplibre.ScaleControl(), "bottom-left");
    this.map.addControl(new maplibre.AttributionControl({ customAttribution: CREDIT }), "bottom-right");
    this.popup = new maplibre.Popup({ closeButton: false, closeOnClick: false, offset: 10 });
    box.append(element("div", { className: "aim" }));
    this.#listen();
  }

  /** Show a campaign; moves there. */
  showCampaign(campaign, background) {
    Object.assign(this, { campaign, background, code: null, peers: [] });
    this.geometry = NOTHING;
    this.map.setStyle(this.#style(), { diff: false });
    if (campaign.bounds) this.map.fitBounds(campaign.bounds, { padding: ROOM, animate: false });
    this.#hintZoom();
  }

  /** Mark a parcel by its geometry (GeoJSON, degrees) and move there. */
  showParcel(code, geometry) {
    Object.assign(this, { code, peers: [] });
    this.geometry = { type: "Feature", properties: {}, geometry };
    this.#mark();
    this.map.fitBounds(boundsOf(geometry), { padding: { ...ROOM, top: 110 }, maxZoom: 16, duration: 400 });
  }

  showPeers(codes) {
    this.peers = codes;
    this.#mark();
  }

  #listen() {
    const { map } = this;
    map.on("click", (event) => this.#pickAt(event.point));
    map.on("mousemove", (event) => this.#hover(event));
    map.on("mouseout", () => this.popup.remove());
    map.on("dataloading", () => this.box.setAttribute("aria-busy", "true"));
    map.on("idle", () => this.box.setAttribute("aria-busy", "false"));
    map.on("moveend", () => this.#hintZoom());
    map.on("error", ({ error }) => this.#complain(error));
    map.getCanvas().setAttribute("aria-label", "Map of parcels. Arrow keys move it, plus and minus zoom, Enter chooses the parcel in the middle.");
    map.getCanvas().addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#pickAt(map.project(map.getCenter()));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      if (this.campaign) map.setStyle(this.#style(), { diff: false });
    });
  }

  #style() {
    const { aoi, year, ptype, min_zoom: minzoom, max_zoom: maxzoom, bounds } = this.campaign;
    const tiles = [`${location.origin}/tiles/${aoi}/${year}/{z}/{x}/{y}${ptype ? `?ptype=${ptype}` : ""}`];
    const parcels = { source: "parcels", "source-layer": "parcels" };
    const sources = {
      parcels: { type: "vector", tiles, minzoom, maxzoom, ...(bounds && { bounds }) },
      extent: { type: "geojson", data: bounds ? outline(bounds) : NOTHING },
      chosen: { type: "geojson", data: this.geometry },
    };
    const layers = [
      { id: "ground", type: "background", paint: { "background-color": colour("ground") } },
      { id: "extent", type: "line", source: "extent", maxzoom: minzoom, paint: { "line-color": colour("parcel-line"), "line-width": 2, "line-dasharray": [2, 2] } },
      { id: "parcels", type: "fill", ...parcels, paint: { "fill-color": colour("parcel"), "fill-opacity": this.background ? 0.15 : 0.75 } },
      { id: "peers", type: "fill", ...parcels, filter: this.#peerFilter(), paint: { "fill-color": colour("peer"), "fill-opacity": 0.6 } },
      { id: "edges", type: "line", ...parcels, paint: { "line-color": colour("parcel-line"), "line-width": ["interpolate", ["linear"], ["zoom"], 11, 0.3, 16, 1.4] } },
      { id: "chosen-fill", type: "fill", source: "chosen", paint: { "fill-color": colour("chosen"), "fill-opacity": 0.25 } },
      { id: "chosen", type: "line", source: "chosen", paint: { "line-color": colour("chosen"), "line-width": 3 } },
    ];
    if (this.background) {
      const address = `${location.origin}/page/background/{z}/{x}/{y}`;
      sources.background = { type: "raster", tiles: [address], tileSize: 256, maxzoom: 19, ...this.background };
      layers.splice(1, 0, { id: "background", type: "raster", source: "background" });
    }
    return { version: 8, sources, layers };
  }

  #peerFilter() {
    return ["in", ["get", "code"], ["literal", this.peers]];
  }

  #mark() {
    const set = () => {
      this.map.getSource("chosen")?.setData(this.geometry);
      if (this.map.getLayer("peers")) this.map.setFilter("peers", this.#peerFilter());
    };
    if (this.map.getSource("chosen")) set();
    else this.map.once("styledata", set);
  }

  #under(point) {
    return this.map.getLayer("parcels") ? this.map.queryRenderedFeatures(point, { layers: ["parcels"] }) : [];
  }

  /** Where parcels overlap, the next click picks the next parcel. */
  #pickAt(point) {
    const codes = [...new Set(this.#under(point).map(({ properties }) => properties.code))];
    if (codes.length) this.onPick(codes[(codes.indexOf(this.code) + 1) % codes.length]);
  }

  #hover({ point, lngLat }) {
    const [feature] = this.#under(point);
    this.map.getCanvas().style.cursor = feature ? "pointer" : "";
    if (!feature) return void this.popup.remove();
    const { code, crop } = feature.properties;
    this.popup.setLngLat(lngLat).setDOMContent(element("div", {}, element("b", { textContent: code }), crop ?? "")).addTo(this.map);
  }

  #hintZoom() {
    if (!this.campaign) return;
    const { min_zoom: minimum, bounds } = this.campaign;
    if (!bounds) setText(this.hint, "This campaign has no parcels yet.");
    else setText(this.hint, this.map.getZoom() < minimum ? "Zoom in to see parcels" : "");
  }

  #complain(error) {
    if (error?.status === 401) location.assign("/login");
    else setText(this.hint, "Some of the map could not be loaded.", true);
  }
}

function boundsOf(geometry) {
  const points = geometry.coordinates.flat(geometry.type === "MultiPolygon" ? 2 : 1);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

function outline([west, south, east, north]) {
  const coordinates = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  return { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates } };
}
