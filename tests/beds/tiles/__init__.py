"""A tile server: XYZ in Web Mercator and WMTS in UTM, of a ground whose colours are known."""
