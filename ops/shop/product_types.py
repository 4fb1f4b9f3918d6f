"""The product types of the generated shop: where each stands in the category tree, what else it is called,
which attributes it has, and which other types replace it or go with it.

One line a type: `name | typical price | other names | attributes | relations`. Attributes name a palette of
values below, or `models` for types whose products carry a model number. Relations: `like` (a substitute),
`with` (a complement), `fits` (an accessory made for one product of that type).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Palette name -> attribute, and its values from common to rare.
PALETTES: dict[str, tuple[str, tuple[str, ...]]] = {
    "basics": ("colour", ("black", "white", "grey", "blue", "red", "navy", "green", "beige")),
    "brights": (
        "colour",
        ("black", "blue", "red", "pink", "green", "yellow", "purple", "orange", "turquoise"),
    ),
    "metals": ("colour", ("black", "silver", "white", "gold", "grey", "rose gold", "blue")),
    "wooden": ("colour", ("white", "brown", "black", "grey", "natural", "walnut")),
    "shades": ("colour", ("red", "pink", "brown", "nude", "purple", "coral")),
    "clothes": ("size", ("M", "L", "S", "XL", "XS", "XXL")),
    "shoe": ("size", ("42", "40", "38", "43", "39", "41", "44", "37", "45", "36")),
    "kidsize": ("size", ("104", "116", "128", "92", "140", "152")),
    "babysize": ("size", ("62", "68", "74", "80", "56", "86")),
    "storage": ("size", ("128 GB", "256 GB", "64 GB", "512 GB", "1 TB")),
    "bigscreen": ("size", ("55 inch", "43 inch", "65 inch", "32 inch", "75 inch")),
    "monitor": ("size", ("27 inch", "24 inch", "32 inch", "34 inch")),
    "laptop": ("size", ("15 inch", "14 inch", "13 inch", "17 inch")),
    "cable": ("size", ("2 m", "1 m", "3 m", "5 m", "0.5 m", "10 m")),
    "volume": ("size", ("500 ml", "750 ml", "1 l", "350 ml", "1.5 l")),
    "pot": ("size", ("24 cm", "28 cm", "20 cm", "30 cm", "16 cm")),
    "kettle": ("size", ("1.7 l", "1 l", "1.2 l", "2 l")),
    "bed": ("size", ("140x200 cm", "160x200 cm", "90x200 cm", "180x200 cm", "200x200 cm")),
    "towel": ("size", ("70x140 cm", "50x100 cm", "100x150 cm", "30x50 cm")),
    "rug": ("size", ("160x230 cm", "120x170 cm", "80x150 cm", "200x300 cm")),
    "cushion": ("size", ("45x45 cm", "50x50 cm", "40x40 cm", "60x60 cm", "30x50 cm")),
    "frame": ("size", ("30x40 cm", "21x30 cm", "50x70 cm", "13x18 cm", "61x91 cm")),
    "battery": ("size", ("AA", "AAA", "C", "D")),
    "bulb": ("size", ("9 W", "12 W", "5 W", "15 W")),
    "weight": ("size", ("5 kg", "10 kg", "2 kg", "20 kg", "15 kg")),
    "power": ("size", ("18 V", "12 V", "20 V", "36 V")),
    "hose": ("size", ("20 m", "15 m", "30 m", "50 m")),
    "bagsize": ("size", ("20 l", "30 l", "40 l", "60 l", "15 l")),
    "caselength": ("size", ("55 cm", "67 cm", "75 cm", "80 cm")),
    "tent": ("size", ("2 person", "4 person", "3 person", "6 person")),
    "paper": ("size", ("A4", "A5", "A3", "A6")),
    "cosmetic": ("size", ("50 ml", "100 ml", "200 ml", "30 ml", "300 ml")),
    "feed": ("size", ("3 kg", "10 kg", "1.5 kg", "400 g")),
    "dogsize": ("size", ("M", "L", "S", "XS", "XL")),
    "bike": ("size", ("28 inch", "26 inch", "29 inch", "24 inch", "20 inch")),
    "cloth": ("material", ("cotton", "polyester", "linen", "wool", "bamboo")),
    "bedcloth": ("material", ("cotton", "microfibre", "linen", "satin", "flannel")),
    "hide": ("material", ("leather", "canvas", "nylon", "suede")),
    "upper": ("material", ("mesh", "leather", "canvas", "suede")),
    "soft": ("material", ("silicone", "leather", "plastic", "fabric")),
    "pan": ("material", ("stainless steel", "cast iron", "aluminium", "copper")),
    "ware": ("material", ("ceramic", "glass", "stainless steel", "plastic", "bamboo")),
    "bottle": ("material", ("stainless steel", "plastic", "glass", "aluminium")),
    "board": ("material", ("wood", "bamboo", "plastic", "glass")),
    "furniture": ("material", ("wood", "metal", "rattan", "plastic", "glass")),
    "outdoor": ("material", ("rattan", "wood", "aluminium", "plastic")),
    "planter": ("material", ("plastic", "ceramic", "wood", "metal")),
    "toy": ("material", ("wood", "plastic", "fabric")),
    "packs": ("quantity", ("1", "2", "3", "6", "4", "10")),
    "bulk": ("quantity", ("10", "20", "50", "100", "5", "24")),
    "sets": ("quantity", ("1", "4", "6", "12", "2", "8")),
    "adults": ("audience", ("men", "women")),
    "people": ("audience", ("women", "men", "kids")),
    "young": ("audience", ("kids", "toddler", "baby")),
}

TABLE = """
# Electronics
## Phones & Tablets
smartphone | 420 | mobile phone, cell phone, handset | metals storage models | with power bank
phone case | 18 | cover, phone cover, bumper | brights soft | fits smartphone; like phone pouch
phone pouch | 15 | phone sleeve, phone bag | basics hide | like phone case
screen protector | 11 | tempered glass, protective film, screen guard | packs | fits smartphone
tablet | 330 | tablet pc, tab | metals storage models | with stylus pen
tablet case | 26 | tablet cover, folio, tablet sleeve | brights soft | fits tablet
stylus pen | 29 | stylus, touch pen, tablet pencil | metals |
power bank | 34 | portable charger, battery pack, external battery | basics models | like usb charger
usb charger | 19 | wall charger, power adapter | basics packs models | with usb cable; like power bank
usb cable | 9 | charging cable, usb c cable, charging lead, cord | basics cable packs | with usb charger
## Audio & Video
headphones | 95 | over ear headphones, cans, headset | metals models | like earbuds
earbuds | 69 | in ear headphones, true wireless, ear phones, earphones | metals models | like headphones
bluetooth speaker | 58 | portable speaker, wireless speaker, boombox | brights models | like soundbar
soundbar | 180 | tv speaker, sound bar | basics models | with television; like bluetooth speaker
television | 520 | tv, smart tv, telly | bigscreen models | with tv wall mount, soundbar
tv wall mount | 38 | tv bracket, wall bracket, tv holder | bigscreen | with television
hdmi cable | 12 | hdmi lead, monitor cable | cable packs | with television, monitor
digital camera | 480 | camera, compact camera, system camera | metals models | with memory card
camera lens | 350 | lens, zoom lens, objective | models | fits digital camera
memory card | 22 | sd card, micro sd, flash card | storage | with digital camera
smartwatch | 160 | fitness watch, smart watch, activity tracker | metals models | like wrist watch
watch strap | 16 | watch band, bracelet, replacement strap | brights soft | fits smartwatch

# Computers & Office
## Computers
laptop | 780 | notebook, notebook computer, ultrabook | metals laptop models | with laptop bag, computer mouse
laptop bag | 42 | laptop case, notebook sleeve, briefcase | basics hide laptop | with laptop; like backpack
monitor | 260 | computer screen, display, pc screen | basics monitor models | with hdmi cable
keyboard | 49 | pc keyboard, mechanical keyboard | basics models | with computer mouse
computer mouse | 27 | mouse, wireless mouse, pc mouse | brights models | with mouse pad, keyboard
mouse pad | 12 | mouse mat, desk mat, mousepad | brights | with computer mouse
external hard drive | 85 | portable drive, external hdd, portable ssd | basics storage models | like usb stick
usb stick | 14 | flash drive, thumb drive, pen drive | brights storage packs | like external hard drive
## Printing & Desk
printer | 150 | inkjet printer, laser printer, multifunction printer | basics models | with printer paper
ink cartridge | 31 | ink, printer cartridge, toner, refill ink | brights packs | fits printer
printer paper | 24 | copy paper, copier paper, a4 paper | paper bulk | with printer; like notebook pad
notebook pad | 9 | notebook, notepad, journal, writing pad | brights paper packs | with ballpoint pen
ballpoint pen | 8 | biro, pens, ball pen | brights bulk | with notebook pad; like felt tip pen
felt tip pen | 11 | markers, fineliner, colouring pens | brights bulk | like ballpoint pen
desk chair | 170 | office chair, swivel chair, task chair | basics hide | with desk; like gaming chair
gaming chair | 210 | gamer chair, racing chair | brights hide | like desk chair
desk | 190 | computer desk, writing desk, work table | wooden furniture | with desk chair

# Kitchen
## Cookware
frying pan | 38 | skillet, fry pan, non stick pan | basics pot pan | like wok, saucepan
saucepan | 33 | pot, cooking pot, milk pan | basics pot pan | like frying pan
wok | 44 | stir fry pan, asia pan | basics pot pan | like frying pan
baking tin | 17 | cake tin, bakeware, springform | basics pot pan |
kitchen knife | 36 | chef knife, cooks knife, chopping knife | basics packs | with cutting board
cutting board | 24 | chopping board, carving board | board packs | with kitchen knife
## Appliances
kettle | 41 | electric kettle, water boiler, teakettle | metals kettle models | with teapot
coffee machine | 190 | coffee maker, espresso machine, coffeemaker | metals models | with coffee capsules
coffee capsules | 27 | coffee pods, pods | bulk | fits coffee machine
blender | 66 | smoothie maker, mixer, liquidiser | metals models | like hand mixer
hand mixer | 39 | hand blender, stick blender, whisk | brights models | like blender
toaster | 43 | bread toaster, 2 slice toaster | metals models |
## Tableware
mug | 13 | coffee cup, tea cup, cup | brights ware sets | like travel mug
travel mug | 22 | thermos cup, insulated cup, tumbler | brights bottle volume | like mug, water bottle
water bottle | 19 | drinking bottle, flask, sports bottle | brights bottle volume people | like travel mug
plate set | 45 | dinner plates, dinnerware, crockery | basics ware sets |
food container | 21 | lunch box, storage box, meal prep container | brights ware sets |
teapot | 29 | tea pot, tea infuser pot | basics ware kettle | with kettle

# Home & Living
## Bedroom & Bath
duvet cover | 46 | bedding set, bed linen, quilt cover | basics bedcloth bed | with pillow, fitted sheet
fitted sheet | 24 | bed sheet, sheet, stretch sheet | basics bedcloth bed | with duvet cover
pillow | 31 | head pillow, sleeping pillow | packs cloth | with duvet cover
bath towel | 19 | towel, shower towel, hand towel | basics cloth towel packs | with bath mat
bath mat | 18 | bathroom rug, shower mat | basics cloth | with bath towel; like rug
## Living
cushion cover | 14 | pillow case, throw pillow cover, cushion case | brights cloth cushion packs |
rug | 110 | carpet, area rug, floor mat | basics cloth rug |
curtain | 37 | drapes, window curtain, blackout curtain | basics cloth packs |
picture frame | 17 | photo frame, poster frame | wooden furniture frame packs |
desk lamp | 39 | table lamp, reading lamp, work light | basics models | with light bulb; like floor lamp
floor lamp | 85 | standing lamp, standard lamp, uplighter | basics furniture | with light bulb; like desk lamp
light bulb | 12 | led bulb, lamp, e27 bulb | bulb packs | with desk lamp, floor lamp
bookcase | 120 | book shelf, shelving unit, shelf | wooden furniture | like wall shelf
wall shelf | 32 | floating shelf, shelf board, hanging shelf | wooden packs | like bookcase
vacuum cleaner | 190 | hoover, vac, cordless vacuum | brights models | with vacuum bags
vacuum bags | 16 | dust bags, hoover bags, vac bags | packs | fits vacuum cleaner

# Clothing
## Tops
t-shirt | 16 | tee, tshirt, short sleeve top | basics clothes cloth people packs | like polo shirt
polo shirt | 28 | polo, golf shirt | basics clothes cloth adults | like t-shirt
hoodie | 42 | hooded sweatshirt, sweater with hood, pullover | basics clothes cloth people | like jumper
jumper | 46 | sweater, pullover, knit | basics clothes cloth adults | like hoodie
rain jacket | 75 | waterproof jacket, raincoat, anorak | brights clothes people | like winter jacket
winter jacket | 120 | winter coat, parka, down jacket | basics clothes people | like rain jacket
## Bottoms & Underwear
jeans | 58 | denim trousers, denims, jean pants | basics clothes adults | with belt
leggings | 25 | yoga pants, tights, sport leggings | brights clothes people |
socks | 14 | ankle socks, crew socks, sport socks | basics shoe cloth people packs |
boxer shorts | 24 | boxers, trunks, underpants | basics clothes cloth packs |
belt | 27 | waist belt, jeans belt | basics hide adults | with jeans
romper | 19 | babygrow, bodysuit, sleepsuit, onesie | brights babysize cloth packs |

# Shoes & Bags
## Shoes
running shoes | 89 | trainers, jogging shoes, sneakers | brights shoe upper people models | like walking shoes
walking shoes | 98 | hiking shoes, trekking boots | basics shoe upper adults models | like running shoes
sandals | 37 | flip flops, slides, beach shoes | basics shoe hide people | like slippers
slippers | 25 | house shoes, mules | basics shoe cloth people | like sandals
boots | 99 | ankle boots, chelsea boots, winter boots | basics shoe hide adults | with shoe care
shoe care | 10 | shoe polish, shoe cream, leather spray | basics | with boots
## Bags & Watches
backpack | 54 | rucksack, daypack, school bag, bookbag | basics bagsize hide people |
handbag | 68 | shoulder bag, tote, purse | basics hide | like backpack
suitcase | 99 | trolley, luggage, carry on, travel case | brights caselength | with luggage tag
luggage tag | 8 | suitcase tag, name tag | brights hide packs | with suitcase
wallet | 29 | purse, card holder, billfold | basics hide adults |
wrist watch | 85 | watch, quartz watch, timepiece | metals hide adults models | like smartwatch

# Sport & Outdoor
## Fitness
dumbbell | 32 | hand weight, weights, free weight | basics weight packs | like kettlebell
kettlebell | 37 | kettle bell, ball weight | basics weight | like dumbbell
yoga mat | 28 | exercise mat, gym mat, pilates mat | brights | with yoga block
yoga block | 12 | yoga brick, foam block | brights packs | with yoga mat
tennis racket | 90 | tennis racquet, racket | brights models people | with tennis balls
tennis balls | 9 | tennis ball, balls | packs | with tennis racket
## Outdoor
tent | 140 | camping tent, dome tent | brights tent models | with sleeping bag
sleeping bag | 59 | mummy bag, camping bag | brights people | with tent
bicycle helmet | 49 | bike helmet, cycle helmet, cycling helmet | brights people models | with bicycle
bicycle | 480 | bike, mountain bike, cycle | brights bike people models | with bicycle lock, bicycle helmet
bicycle lock | 32 | bike lock, chain lock, u lock | basics | with bicycle
inner tube | 8 | bike tube, tyre tube | bike packs | with bicycle

# Tools & DIY
## Power Tools
cordless drill | 99 | drill, drill driver, battery screwdriver | power models | with drill bits
drill bits | 21 | bit set, drills, drill set | bulk | with cordless drill
angle grinder | 79 | grinder, flex, cut off tool | power models |
tool battery | 49 | replacement battery, power tool battery | power | fits cordless drill
## Hand Tools
screwdriver set | 25 | screwdrivers, bits set | sets | like hex key set
hex key set | 14 | allen keys, hex wrench, allen wrench | sets | like screwdriver set
hammer | 19 | claw hammer, mallet | packs |
tool box | 42 | toolbox, tool case, tool storage | brights furniture |
batteries | 11 | battery, alkaline batteries, cells | battery bulk |
tape measure | 9 | measuring tape, ruler tape | cable packs |

# Toys & Games
## Toys
building blocks | 34 | construction set, brick set, bricks | brights toy young bulk | like wooden train
wooden train | 39 | toy train, train set, railway | toy young | like building blocks
teddy bear | 22 | plush bear, soft toy, stuffed animal, cuddly toy | brights cushion young | like doll
doll | 27 | baby doll, fashion doll, dolly | brights toy young | like teddy bear
jigsaw puzzle | 18 | puzzle, jigsaw, 1000 piece puzzle | people | like board game
board game | 29 | family game, party game, game | people | like jigsaw puzzle
remote control car | 46 | rc car, radio control car, toy car | brights models young |

# Beauty & Care
## Face & Hair
lipstick | 14 | lip colour, lip color, lippy | shades packs | like lip gloss
lip gloss | 11 | gloss, lip shine | shades packs | like lipstick
face cream | 26 | moisturiser, day cream, face lotion | cosmetic adults | like body lotion
body lotion | 12 | body milk, skin lotion, body cream | cosmetic packs | like face cream
shampoo | 9 | hair wash, hair shampoo | cosmetic packs people | with conditioner
conditioner | 10 | hair balm, hair rinse | cosmetic packs | with shampoo
hair dryer | 48 | hairdryer, blow dryer | brights models | like hair straightener
hair straightener | 53 | flat iron, straighteners | brights models | like hair dryer
## Shaving & Teeth
electric shaver | 92 | razor, electric razor, shaver | metals models | like beard trimmer
beard trimmer | 47 | hair clipper, trimmer, clippers | metals models | like electric shaver
shaver heads | 29 | shaving heads, replacement blades, shaver foil | packs | fits electric shaver
electric toothbrush | 71 | sonic toothbrush, tooth brush | brights models people | with toothpaste
brush heads | 19 | toothbrush heads, replacement heads | packs | fits electric toothbrush
toothpaste | 5 | tooth paste, dental cream | cosmetic packs people | with electric toothbrush

# Garden
## Garden Care
lawn mower | 260 | lawnmower, grass cutter, mower | power models | like hedge trimmer
hedge trimmer | 98 | hedge cutter, hedge shears | power models |
garden hose | 32 | hose pipe, water hose, hosepipe | brights hose | with hose nozzle
hose nozzle | 13 | spray gun, garden sprayer, hose gun | brights packs | with garden hose
flower pot | 18 | plant pot, planter, plant tub | wooden planter pot packs | with potting soil
potting soil | 12 | compost, potting mix, plant soil | bagsize | with flower pot
## Garden Living
garden chair | 49 | patio chair, lawn chair | wooden outdoor packs | with garden table; like desk chair
garden table | 110 | patio table, outdoor table | wooden outdoor | with garden chair
barbecue | 160 | bbq, grill, charcoal grill | basics models | with charcoal
charcoal | 14 | briquettes, bbq coal | weight | with barbecue

# Baby
## Baby Care
pushchair | 320 | stroller, buggy, pram | basics models | with baby changing bag
baby changing bag | 52 | nappy bag, diaper bag | basics hide | with pushchair; like backpack
baby bottle | 12 | feeding bottle, milk bottle | brights ware cosmetic packs | like water bottle
nappies | 28 | diapers, disposable nappies | bulk babysize | with baby wipes
baby wipes | 12 | wet wipes, wipes | bulk | with nappies
# Pets
## Cats & Dogs
dog bed | 48 | pet bed, dog basket, dog cushion | basics dogsize cloth | like cat bed
cat bed | 36 | cat basket, pet bed, cat cave | basics cloth | like dog bed
dog lead | 18 | dog leash, leash | brights dogsize hide | with dog collar
dog collar | 15 | pet collar, collar | brights dogsize hide | with dog lead
dog food | 32 | dog kibble, dry dog food | feed packs | like cat food
cat food | 26 | cat kibble, wet cat food | feed packs | like dog food
"""


@dataclass(frozen=True, slots=True)
class ProductType:
    """A leaf of the category tree. `attributes` maps an attribute to the values it can have."""

    name: str
    path: tuple[str, str]
    price: float
    other_names: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]
    has_models: bool
    fits: str
    substitutes: frozenset[str]
    complements: frozenset[str]


def parse(table: str) -> dict[str, ProductType]:
    """Read a table of the form above, by name. Raises ValueError for a line that makes no sense."""
    types: dict[str, ProductType] = {}
    department = group = ""
    for line in filter(None, map(str.strip, table.splitlines())):
        if line.startswith("## "):
            group = line[3:]
        elif line.startswith("# "):
            department = line[2:]
        else:
            product_type = _parse_line(line, (department, group))
            types[product_type.name] = product_type
    for product_type in types.values():
        related = product_type.substitutes | product_type.complements | {product_type.fits}
        if unknown := related - types.keys() - {""}:
            raise ValueError(f"{product_type.name!r} is related to unknown types {sorted(unknown)}")
    return types


def _parse_line(line: str, path: tuple[str, str]) -> ProductType:
    columns = [column.strip() for column in line.split("|")]
    if len(columns) != 5:
        raise ValueError(f"expected 'name | price | other names | attributes | relations', got {line!r}")
    name, price, other_names, palettes, relations = columns
    attributes: dict[str, tuple[str, ...]] = {}
    for palette in palettes.split():
        if palette != "models":
            attribute, values = PALETTES[palette]
            if attribute in attributes:
                raise ValueError(f"{name!r} has two palettes for {attribute!r}")
            attributes[attribute] = values
    related: dict[str, frozenset[str]] = {}
    for relation in filter(None, relations.split(";")):
        verb, _, names = relation.strip().partition(" ")
        related[verb] = frozenset(part.strip() for part in names.split(","))
    return ProductType(
        name=name,
        path=path,
        price=float(price),
        other_names=tuple(part.strip() for part in other_names.split(",")),
        attributes=attributes,
        has_models="models" in palettes.split(),
        fits=next(iter(related.get("fits", ())), ""),
        substitutes=related.get("like", frozenset()),
        complements=related.get("with", frozenset()) | related.get("fits", frozenset()),
    )


TYPES: dict[str, ProductType] = parse(TABLE)
