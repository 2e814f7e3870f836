"""The routes by area, and the OpenAPI document that is generated from them."""
