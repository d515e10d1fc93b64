"""The theme of Gradio's components: neutral greys, one accent, one radius, a font that ships with Gradio. The rest is assets/style.css."""

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

RADIUS = "6px"
ACCENT, ACCENT_HOVER, ON_ACCENT = "#0b6b63", "#095650", "#ffffff"
ACCENT_DARK, ACCENT_HOVER_DARK, ON_ACCENT_DARK = "#4cc2b4", "#6fd3c7", "#06201d"

LIGHT_AND_DARK = {
    "body_background_fill": ("#fafafa", "#141414"),
    "background_fill_primary": ("#ffffff", "#1c1c1c"),
    "background_fill_secondary": ("#f3f3f3", "#232323"),
    "block_background_fill": ("transparent", "transparent"),
    "input_background_fill": ("#ffffff", "#1c1c1c"),
    "border_color_primary": ("#dcdcdc", "#383838"),
    "input_border_color": ("#8a8a8a", "#757575"),
    "input_border_color_focus": (ACCENT, ACCENT_DARK),
    "block_border_color": ("#dcdcdc", "#383838"),
    "body_text_color": ("#1a1a1a", "#ededed"),
    "body_text_color_subdued": ("#5c5c5c", "#a3a3a3"),
    "block_info_text_color": ("#5c5c5c", "#a3a3a3"),
    "block_title_text_color": ("#1a1a1a", "#ededed"),
    "block_label_text_color": ("#5c5c5c", "#a3a3a3"),
    "input_placeholder_color": ("#767676", "#8f8f8f"),
    "button_primary_background_fill": (ACCENT, ACCENT_DARK),
    "button_primary_background_fill_hover": (ACCENT_HOVER, ACCENT_HOVER_DARK),
    "button_primary_text_color": (ON_ACCENT, ON_ACCENT_DARK),
    "button_primary_text_color_hover": (ON_ACCENT, ON_ACCENT_DARK),
    "button_secondary_background_fill": ("#ffffff", "#262626"),
    "button_secondary_background_fill_hover": ("#f0f0f0", "#303030"),
    "button_secondary_border_color": ("#c9c9c9", "#444444"),
    "button_secondary_border_color_hover": ("#a3a3a3", "#5c5c5c"),
    "button_secondary_text_color": ("#1a1a1a", "#ededed"),
    "slider_color": ("#5c5c5c", "#a3a3a3"),
    "loader_color": ("#5c5c5c", "#a3a3a3"),
    "checkbox_border_color": ("#8a8a8a", "#757575"),
    "checkbox_border_color_hover": ("#5c5c5c", "#a3a3a3"),
    "checkbox_border_color_focus": (ACCENT, ACCENT_DARK),
    "checkbox_background_color_selected": ("#3d3d3d", "#d4d4d4"),
    "checkbox_border_color_selected": ("#3d3d3d", "#d4d4d4"),
    "checkbox_label_background_fill": ("transparent", "transparent"),
    "checkbox_label_background_fill_hover": ("transparent", "transparent"),
    "checkbox_label_background_fill_selected": ("transparent", "transparent"),
    "checkbox_label_text_color_selected": ("#1a1a1a", "#ededed"),
    "link_text_color": ("#1a1a1a", "#ededed"),
    "link_text_color_hover": ("#000000", "#ffffff"),
    "link_text_color_visited": ("#1a1a1a", "#ededed"),
    "color_accent_soft": ("#f0f0f0", "#2b2b2b"),
    "border_color_accent": (ACCENT, ACCENT_DARK),
}

SAME_IN_BOTH = {
    "color_accent": "#808080",  # Gradio marks tabs and selections with it; the accent is for the run button and the focus ring
    "block_border_width": "0px",
    "block_padding": "0px",
    "block_shadow": "none",
    "block_label_border_width": "0px",
    "block_title_text_weight": "600",
    "body_text_size": "14px",
    "block_title_text_size": "14px",
    "block_info_text_size": "13px",
    "input_text_size": "14px",
    "checkbox_label_text_size": "14px",
    "button_small_text_size": "13px",
    "button_small_padding": "4px 12px",
    "button_large_text_size": "16px",
    "button_large_padding": "10px 24px",
    "input_padding": "8px 12px",
    "button_border_width": "1px",
    "button_primary_border_color": "transparent",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_large_text_weight": "600",
    "button_small_text_weight": "400",
    "button_medium_text_weight": "400",
    "checkbox_label_border_width": "0px",
    "checkbox_label_padding": "0px",
    "checkbox_label_shadow": "none",
    "checkbox_shadow": "none",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_border_width": "1px",
    "form_gap_width": "0px",
    "layout_gap": "16px",
    "section_header_text_weight": "600",
}


def theme() -> gr.themes.Base:
    """Gradio's theme, with a light and a dark value for each colour."""
    steps = ("xxs", "xs", "sm", "md", "lg", "xl", "xxl")
    look = gr.themes.Base(
        primary_hue=colors.neutral,
        secondary_hue=colors.neutral,
        neutral_hue=colors.neutral,
        radius_size=sizes.Size(name="one_radius", **dict.fromkeys(steps, RADIUS)),
        text_size=sizes.text_md,
        # Of the weights that ship with Gradio, 400 and 700 hold the Latin letters; its 600 is a subset without them.
        font=[fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[fonts.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
    )
    both = {name: light for name, (light, _) in LIGHT_AND_DARK.items()} | {
        f"{name}_dark": dark for name, (_, dark) in LIGHT_AND_DARK.items()
    }
    return look.set(**both, **SAME_IN_BOTH)
